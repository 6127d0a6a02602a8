# Dragoman procedure: relink
# Version: 2
# Summary: lets a customer's key stand for another contact, or for none, as a person says
#
# Takes from the context {"dragoman": {"items": [ITEM…]}}, ITEM: {"model": "res.partner", "key", "from": id or false, "to":
# id or false, "company": id or false, "shared": false}. `from` is what the caller thinks that the key stands for; false: it
# does not know. `to` false: for nothing, until `import` looks for it again; what it stood for is then found by none of the
# rules. `shared`: other keys may stand for `to` as well, and go on doing so; else that is refused.
#
# Answers {"procedure", "version", "items": [{"key", "model", "outcome", "id", "name", "before"} or {"key", "model",
# "outcome": "error", "error": {"name", "message"}, "id"}…]} in their order; outcome is linked, unlinked, or unchanged (it
# was so already: whoever lost an answer asks again); `id` what the key stands for now; `before` what it stood for.
# Contacts and orders stay as they are. Written as import.py is, for the same checkers; the keys are those of `import`.

PROCEDURE = 'relink'
VERSION = 2


def without_payload():
    context = dict(env.context)
    for name in ('dragoman', 'active_model', 'active_id', 'active_ids'):
        context.pop(name, None)
    return env(context=context, su=True)


SUDO = without_payload()


def problem(name, message):
    return Exception('dragoman.' + name, message)


def whole(value):
    if value is None or value is False:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value > 2147483647:
        raise problem('Item', '%s is no id of a record.' % (value,))
    return value


def check(item):
    if not isinstance(item, dict) or not isinstance(item.get('key'), str) or not item['key']:
        raise problem('Item', 'An item is an object with `model`, `key`, `from` and `to`.')
    if item.get('model') != 'res.partner':
        raise problem('Item', 'Only keys of customers (res.partner) are linked anew.')
    for name in ('from', 'to', 'company'):
        whole(item.get(name))


def external_name(item):
    return item['model'] + '/' + item['key'].replace('%', '%25').replace(' ', '%20')


def row_of(item):
    # Of two callers the later one gets a serialization failure, and is run again by Odoo itself.
    env.cr.execute('SELECT res_id, digest, parent_key, refused FROM dragoman_key WHERE model = %s AND key = %s FOR UPDATE',
                   (item['model'], item['key']), log_exceptions=False)
    rows = env.cr.fetchall()
    if not rows:
        env.cr.execute('INSERT INTO dragoman_key (model, key) VALUES (%s, %s) ON CONFLICT (model, key) DO NOTHING',
                       (item['model'], item['key']), log_exceptions=False)
        return 0, []
    res_id, digest, parent, refused = rows[0]
    if digest or parent:
        raise problem('Item', 'The key `%s` is that of an imported record, and stands for nothing else.' % item['key'])
    return merged_into(item, res_id) or 0, (refused or '').split()


def merged_into(item, res_id):
    # Whoever has merged the contact in Odoo has said which one it is since: its external id went there (see `import`).
    if not res_id or SUDO[item['model']].browse(res_id).exists():
        return res_id
    env.cr.execute("SELECT res_id FROM ir_model_data WHERE module = '__dragoman__' AND name = %s",
                   (external_name(item),))
    for row in env.cr.fetchall():
        if SUDO[item['model']].browse(row[0]).exists():
            return row[0]
    return res_id


def others_of(item, res_id):
    # The first of the other keys that stand for a record.
    env.cr.execute('SELECT key FROM dragoman_key WHERE model = %s AND res_id = %s AND key <> %s ORDER BY key LIMIT 1',
                   (item['model'], res_id, item['key']))
    return [row[0] for row in env.cr.fetchall()]


def check_record(item, to):
    record = SUDO[item['model']].browse(to).exists()
    if not record:
        raise problem('NoRecord', 'There is no %s %s in Odoo.' % (item['model'], to))
    if not record.active:
        raise problem('Archived', '%s (%s) is archived in Odoo: unarchive it, or name another.' % (record.display_name, to))
    company = whole(item.get('company')) or env.company.id
    if record.company_id and record.company_id.id != company:
        raise problem('Company', '%s (%s) is of the company %s, and the orders are of another.'
                      % (record.display_name, to, record.company_id.display_name))
    for other in others_of(item, to):
        if item.get('shared'):
            break
        raise problem('Taken', '%s (%s) is what `%s` stands for.' % (record.display_name, to, other))


def put(item, to, refused):
    # A reference by match that finds a record claims it by such a row (see `import`), so that two never find the same.
    env.cr.execute('UPDATE dragoman_key SET res_id = %s, refused = %s, applied = now() AT TIME ZONE %s'
                   ' WHERE model = %s AND key = %s', (to or None, ' '.join(refused), 'UTC', item['model'], item['key']))
    name = external_name(item)
    if not to:
        env.cr.execute("DELETE FROM ir_model_data WHERE module = '__dragoman__' AND name = %s", (name,))
        return
    env.cr.execute('INSERT INTO dragoman_key (model, key) VALUES (%s, %s) ON CONFLICT (model, key) DO NOTHING',
                   ('own ' + item['model'], str(to)), log_exceptions=False)
    env.cr.execute(
        'INSERT INTO ir_model_data (module, name, model, res_id, noupdate, create_uid, create_date, write_uid, write_date)'
        " VALUES ('__dragoman__', %s, %s, %s, false, %s, now() AT TIME ZONE 'UTC', %s, now() AT TIME ZONE 'UTC')"
        ' ON CONFLICT (module, name) DO UPDATE SET model = excluded.model, res_id = excluded.res_id,'
        ' write_uid = excluded.write_uid, write_date = excluded.write_date',
        (name, item['model'], to, env.uid, env.uid), log_exceptions=False)


def relink(item):
    check(item)
    to = whole(item.get('to'))
    known = whole(item.get('from'))
    before, refused = row_of(item)
    out = {'key': item['key'], 'model': item['model'], 'outcome': 'unchanged', 'id': to or False, 'name': '',
           'before': before or False}
    if before and before != to and known and before != known:
        raise problem('Changed', 'The key `%s` stands for %s %s by now, and not for %s.'
                      % (item['key'], item['model'], before, known))
    if to and before != to:
        check_record(item, to)
    # Also where it stands for nothing already: what the caller thought it stood for is not to be found any more.
    wanted = refused[:]
    for one in (before, known):
        if one and one != to and str(one) not in wanted:
            wanted.append(str(one))
    if to and str(to) in wanted:
        wanted.remove(str(to))
    if before != to:
        if before and not others_of(item, before):
            env.cr.execute('DELETE FROM dragoman_key WHERE model = %s AND key = %s',
                           ('own ' + item['model'], str(before)), log_exceptions=False)
        out['outcome'] = 'linked' if to else 'unlinked'
    if before != to or wanted != refused:
        put(item, to, wanted)
    if to:
        out['name'] = SUDO[item['model']].browse(to).exists().display_name or ''
    return out


def current(item):
    if not isinstance(item, dict):
        return False
    env.cr.execute('SELECT res_id FROM dragoman_key WHERE model = %s AND key = %s',
                   (str(item.get('model')), str(item.get('key'))))
    for row in env.cr.fetchall():
        return merged_into(item, row[0]) or False
    return False


def try_relink(item):
    # Whatever is wrong with an item is found before anything is written, but for the row of a new key.
    env.cr.execute('SAVEPOINT dragoman_relink')
    try:
        out = relink(item)
    except Exception as error:
        if len(error.args) != 2 or not str(error.args[0]).startswith('dragoman.'):
            raise
        env.cr.execute('ROLLBACK TO SAVEPOINT dragoman_relink')
        env.cr.execute('RELEASE SAVEPOINT dragoman_relink')
        return {'key': item.get('key') if isinstance(item, dict) else False,
                'model': item.get('model') if isinstance(item, dict) else False, 'outcome': 'error', 'id': current(item),
                'error': {'name': error.args[0], 'message': error.args[1]}}
    env.cr.execute('RELEASE SAVEPOINT dragoman_relink')
    return out


def main(payload):
    if not isinstance(payload, dict):
        raise UserError('The context has no `dragoman` object.')
    out = {'procedure': PROCEDURE, 'version': VERSION, 'items': []}
    for item in payload.get('items') or []:
        out['items'].append(try_relink(item))
    return out


action = main(env.context.get('dragoman'))
