# Dragoman procedure: inspect
# Version: 1
# Summary: tells what of Dragoman is in this database, so that the hub can compare it with its own
#
# Takes from the context {"dragoman": {"tables": [name…], "indexes": [name…]}}; answers {"procedure", "version",
# "actions": [{"id", "xml_id", "name", "code", "groups": [id…]}…], "tables": {name: [column…]}, "indexes": {name:
# definition}}. Changes nothing. Written as import.py is, for the same checkers.

PROCEDURE = 'inspect'
VERSION = 1


def main(payload):
    env.cr.execute("SELECT name, res_id FROM ir_model_data WHERE module = '__dragoman__' AND"
                   " model = 'ir.actions.server' ORDER BY name")
    actions = []
    for name, res_id in env.cr.fetchall():
        action = env['ir.actions.server'].sudo().browse(res_id).exists()
        if not action:
            continue
        groups = 'group_ids' if 'group_ids' in action._fields else 'groups_id'
        actions.append({'id': action.id, 'xml_id': name, 'name': action.name, 'code': action.code or '',
                        'groups': sorted(action[groups].ids)})
    env.cr.execute('SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema ='
                   ' current_schema() AND table_name = ANY(%s::text[]) ORDER BY table_name, ordinal_position',
                   (list(payload.get('tables') or []),))
    tables = {}
    for table, column in env.cr.fetchall():
        tables.setdefault(table, []).append(column)
    env.cr.execute('SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND'
                   ' indexname = ANY(%s::text[])', (list(payload.get('indexes') or []),))
    indexes = {}
    for name, definition in env.cr.fetchall():
        indexes[name] = definition
    return {'procedure': PROCEDURE, 'version': VERSION, 'actions': actions, 'tables': tables, 'indexes': indexes}


action = main(env.context.get('dragoman') or {})
