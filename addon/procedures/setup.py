# Dragoman procedure: setup
# Version: 3
# Summary: makes and removes the tables and unique indexes of Dragoman in Odoo's database
#
# Runs as a server action that an administrator makes for one call and deletes again. Takes from the context
# {"dragoman": {"unique": [{"index", "model", "field"}…], "indexes": [the same]}} or {"dragoman": {"remove": true, "fields": [name…]}}, the names
# of fields of ours that were deleted; answers {"procedure", "version", "left": n}, how many tables and indexes of Dragoman
# there are now. All of them have names that begin with
# dragoman_. What is there already stays. Written as import.py is, for the same checkers.

PROCEDURE = 'setup'
VERSION = 3

# The external key of each imported record, and what was applied under it. Odoo's own external ids (ir.model.data) go
# when their record goes, and have no room for a version; this tells a deleted record from one that never came.
TABLES = (
    'CREATE TABLE IF NOT EXISTS dragoman_key ('
    ' model text NOT NULL,'
    ' key text NOT NULL,'
    ' res_id bigint,'
    ' version bigint,'
    ' digest text,'
    " called text NOT NULL DEFAULT '',"
    ' parent_model text,'
    ' parent_key text,'
    " applied timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),"
    ' PRIMARY KEY (model, key))',
    # What came with the second version of `import`: the keys that an order refers to, a line each.
    "ALTER TABLE dragoman_key ADD COLUMN IF NOT EXISTS links text NOT NULL DEFAULT ''",
    # With its third: ids that a person said a key does not stand for, between spaces.
    "ALTER TABLE dragoman_key ADD COLUMN IF NOT EXISTS refused text NOT NULL DEFAULT ''",
    # To see whether a record that was found has a key already.
    'CREATE INDEX IF NOT EXISTS dragoman_key_record ON dragoman_key (model, res_id) WHERE res_id IS NOT NULL',
    'CREATE INDEX IF NOT EXISTS dragoman_key_parent ON dragoman_key (parent_model, parent_key)'
    ' WHERE parent_key IS NOT NULL',
)


def word(text):
    for c in text:
        if c not in 'abcdefghijklmnopqrstuvwxyz0123456789_':
            raise UserError('`%s` is no name for an index or a field.' % text)
    return text


def make(payload):
    for sql in TABLES:
        env.cr.execute(sql)
    for one in payload.get('unique') or []:
        env.cr.execute('CREATE UNIQUE INDEX IF NOT EXISTS "%s" ON "%s" ("%s") WHERE "%s" IS NOT NULL'
                       % (word(one['index']), env[one['model']]._table, word(one['field']), word(one['field'])))
    for one in payload.get('indexes') or []:
        env.cr.execute('CREATE INDEX IF NOT EXISTS "%s" ON "%s" ("%s")'
                       % (word(one['index']), env[one['model']]._table, word(one['field'])))


def remove(payload):
    env.cr.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND left(tablename, 9) ="
                   " 'dragoman_'")
    for row in env.cr.fetchall():
        env.cr.execute('DROP TABLE "%s"' % row[0])
    env.cr.execute("SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND left(indexname, 9) ="
                   " 'dragoman_'")
    for row in env.cr.fetchall():
        env.cr.execute('DROP INDEX "%s"' % row[0])
    # The external ids of imported records have a slash in their names; the records stay.
    env.cr.execute("DELETE FROM ir_model_data WHERE module = '__dragoman__' AND position('/' in name) > 0")
    # 14 deletes a field, and leaves what it wrote down of it for the models that inherit it (a contact's, for users).
    env.cr.execute("DELETE FROM ir_model_fields f WHERE f.name = ANY(%s::text[]) AND f.state = 'base' AND f.related ="
                   " split_part(f.related, '.', 1) || '.' || f.name AND NOT EXISTS (SELECT 1 FROM ir_model_fields m"
                   " WHERE m.name = f.name AND m.state = 'manual')", (list(payload.get('fields') or []),))


def main(payload):
    if payload.get('remove'):
        remove(payload)
    else:
        make(payload)
    env.cr.execute("SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND left(tablename, 9) ="
                   " 'dragoman_') + (SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema() AND"
                   " left(indexname, 9) = 'dragoman_')")
    return {'procedure': PROCEDURE, 'version': VERSION, 'left': env.cr.fetchone()[0]}


action = main(env.context.get('dragoman') or {})
