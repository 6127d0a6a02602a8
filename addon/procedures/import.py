# Dragoman procedure: import
# Version: 1
# Summary: creates and updates records with their children, once per external key
#
# Runs as a server action on Odoo 14 to 19. Their checkers of such code decide how it is written: no import, no `with`,
# no class, no closure, no f-string, no `del d[k]`, and `try` inside functions only.
#
# Takes from the context:
#   {"dragoman": {"items": [ITEM…], "atomic": false}}  or  {"dragoman": {"find": [{"model", "key"}…]}}
#   ITEM: {"key", "model", "values": {field: value},
#          "children": {one2many field: [{"key", "values"}…]},
#          "version": n,        optional: what is applied never goes back to a smaller one
#          "digest": "…",       optional: of values and children; made here if it is not given
#          "call": "method",    optional: called on the record afterwards, once and never again; one of CALLS
#          "recreate": false}   true: make anew what somebody has deleted in Odoo
# A value that refers to another record is its id, {"key": "…"} (of the field's model; in one batch in any order), or
# {"ref": "base.eg"}. A list of such values replaces the links; Odoo's own commands are taken, too.
#
# Answers {"procedure", "version", "items": [{"key", "model", "outcome", "id", "children": {key: id}, "error": {"name",
# "message"}}…]} in the order of the items. outcome is created, updated, unchanged (that digest was applied before),
# skipped (a later version was applied before) or error; of `find`: found, missing, deleted.
#
# The keys are rows of dragoman_key. A caller claims them before anything else; of two callers with one key the later
# waits for the earlier, gets a serialization failure, and is run again by Odoo itself with the other's rows in sight.

PROCEDURE = 'import'
VERSION = 1

# What may be called afterwards: each takes no argument and is what a button of Odoo's own forms does.
CALLS = {
    'action_confirm': lambda r: r.action_confirm(),
    'action_cancel': lambda r: r.action_cancel(),
    'action_draft': lambda r: r.action_draft(),
    'action_quotation_sent': lambda r: r.action_quotation_sent(),
    'action_lock': lambda r: r.action_lock(),
    'action_unlock': lambda r: r.action_unlock(),
    'action_done': lambda r: r.action_done(),
    'action_post': lambda r: r.action_post(),
    'action_validate': lambda r: r.action_validate(),
    'action_approve': lambda r: r.action_approve(),
    'action_assign': lambda r: r.action_assign(),
    'action_apply_inventory': lambda r: r.action_apply_inventory(),
    'action_archive': lambda r: r.action_archive(),
    'action_unarchive': lambda r: r.action_unarchive(),
    'button_confirm': lambda r: r.button_confirm(),
    'button_approve': lambda r: r.button_approve(),
    'button_validate': lambda r: r.button_validate(),
    'button_mark_done': lambda r: r.button_mark_done(),
    'button_plan': lambda r: r.button_plan(),
    'button_cancel': lambda r: r.button_cancel(),
    'button_draft': lambda r: r.button_draft(),
}

# Whoever could write these would own the database: they are not for importing.
REFUSED = ('ir.', 'base.', 'base_', 'res.users', 'res.groups', 'res.config', 'mail.template', 'fetchmail.', 'auth')


def without_payload():
    context = dict(env.context)
    for name in ('dragoman', 'active_model', 'active_id', 'active_ids'):
        context.pop(name, None)
    return env(context=context, su=True)


# Without access rights, and without the payload in the context, which Odoo would look through again and again.
SUDO = without_payload()


def new_cursor():
    try:
        env.cr.clear
        return True
    except Exception:
        return False


# 14 flushes and forgets in other words than its followers.
NEW_CURSOR = new_cursor()


def flush():
    if NEW_CURSOR:
        env.cr.flush()
    else:
        SUDO['base'].flush()
        env.cr.precommit.run()


def forget():
    if NEW_CURSOR:
        env.cr.clear()
    else:
        SUDO.clear()
        env.cr.precommit.clear()


def problem(name, message):
    return Exception('dragoman.' + name, message)


def sql_state(error):
    try:
        return error.pgcode or ''
    except Exception:
        return None


def is_about_the_item(error):
    # Of the database's errors only those about values and constraints; a serialization failure has to reach Odoo,
    # which runs the call again, and what is wrong with the table or the connection is wrong for every item.
    state = sql_state(error)
    return state is None or state[:2] in ('22', '23', 'P0')


def sql_message(error, message):
    # Odoo's own words where this version has them (17 and later).
    try:
        for name in SUDO:
            if SUDO[name]._table == error.diag.table_name:
                return str(SUDO[name]._sql_error_to_message(error))
    except Exception:
        pass
    return message.strip()


def describe(error):
    name = repr(error).split('(')[0]
    args = error.args
    if name == 'Exception' and len(args) == 2 and str(args[0]).startswith('dragoman.'):
        return {'name': args[0], 'message': args[1]}
    message = str(args[0]) if args else str(error)
    if sql_state(error) is not None:
        # As Odoo itself names them when they come out of a call.
        return {'name': 'odoo.exceptions.ValidationError',
                'message': 'The operation cannot be completed: ' + sql_message(error, message)}
    if name in ('UserError', 'ValidationError', 'AccessError', 'MissingError', 'AccessDenied', 'RedirectWarning',
                'CacheMiss', 'LockError'):
        return {'name': 'odoo.exceptions.' + name, 'message': message}
    return {'name': 'builtins.' + name, 'message': message}


# ---------------------------------------------------------------- reading the payload

def check_model(model):
    if not isinstance(model, str) or model not in SUDO:
        raise UserError("Object %s doesn't exist" % model)
    if model == 'ir.attachment':
        return
    for prefix in REFUSED:
        if model.startswith(prefix):
            raise problem('Refused', 'Records of %s are not imported: they decide who may do what.' % model)


def gather_one(comodel, value, found):
    # What is no text is no key, and is refused when it is resolved.
    if isinstance(value, dict) and isinstance(value.get('key'), str):
        model = value.get('model') or comodel
        if isinstance(model, str):
            found.append((model, value['key']))


def gather(model, values, found):
    # The keys that values refer to.
    fields = SUDO[model]._fields
    for name in values:
        value = values[name]
        if not isinstance(value, (dict, list)) or name not in fields:
            continue
        comodel = fields[name].comodel_name
        if isinstance(value, dict):
            gather_one(comodel, value, found)
            continue
        for part in value:
            if not isinstance(part, list):
                gather_one(comodel, part, found)
            elif len(part) > 2 and isinstance(part[2], dict):
                gather(comodel, part[2], found)
            elif len(part) > 2 and isinstance(part[2], list):
                for one in part[2]:
                    gather_one(comodel, one, found)
            elif len(part) > 1:
                gather_one(comodel, part[1], found)


def check_key(key):
    # It is part of two indexes, in one of them escaped.
    if not isinstance(key, str) or not key or '\x00' in key or len(key.encode('utf-8')) > 500:
        raise problem('Item', 'An external key is a text of 1 to 500 bytes.')


def normalise(raw):
    if not isinstance(raw, dict):
        raise problem('Item', 'An item is an object with `key`, `model` and `values`.')
    check_key(raw.get('key'))
    model = raw.get('model')
    check_model(model)
    values = raw.get('values') or {}
    children = raw.get('children') or {}
    version = raw.get('version')
    call = raw.get('call')
    if not isinstance(values, dict) or not isinstance(children, dict):
        raise problem('Item', '`values` and `children` are objects.')
    if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
        raise problem('Item', '`version` is a whole number.')
    if raw.get('digest') and not isinstance(raw['digest'], str):
        raise problem('Item', '`digest` is a text.')
    if call and call not in CALLS:
        raise problem('Item', '`%s` is none of the methods that are called after an import: %s.'
                      % (call, ', '.join(sorted(CALLS))))
    refs = []
    gather(model, values, refs)
    pairs = [(model, raw['key'])]
    fields = SUDO[model]._fields
    for name in children:
        if name not in fields or fields[name].type != 'one2many':
            raise problem('Children', '%s.%s is no list of children (one2many).' % (model, name))
        comodel = fields[name].comodel_name
        check_model(comodel)
        if not isinstance(children[name], list):
            raise problem('Children', 'The children of %s are a list.' % name)
        for child in children[name]:
            if not isinstance(child, dict) or not isinstance(child.get('values') or {}, dict):
                raise problem('Children', 'A child is an object with `key` and `values`.')
            check_key(child.get('key'))
            pair = (comodel, child['key'])
            if pair in pairs:
                raise problem('Children', 'The key `%s` is given to two children.' % child['key'])
            pairs.append(pair)
            gather(comodel, child.get('values') or {}, refs)
    return {'key': raw['key'], 'model': model, 'values': values, 'children': children, 'version': version,
            'digest': raw.get('digest'), 'call': call, 'recreate': bool(raw.get('recreate')), 'pairs': pairs,
            'refs': refs, 'wave': 0}


def try_normalise(raw):
    try:
        return normalise(raw)
    except Exception as error:
        if not is_about_the_item(error):
            raise
        return {'key': raw.get('key') or False if isinstance(raw, dict) else False,
                'model': raw.get('model') or False if isinstance(raw, dict) else False, 'error': describe(error)}


def canonical(value):
    if isinstance(value, dict):
        parts = []
        for name in sorted(value):
            parts.append(repr(name) + ':' + canonical(value[name]))
        return '{' + ','.join(parts) + '}'
    if isinstance(value, (list, tuple)):
        parts = []
        for part in value:
            parts.append(canonical(part))
        return '[' + ','.join(parts) + ']'
    return repr(value)


def add_digests(items):
    wanting = []
    texts = []
    for item in items:
        if not item['digest']:
            wanting.append(item)
            texts.append(canonical([item['values'], item['children']]))
    if not wanting:
        return
    env.cr.execute('SELECT md5(t) FROM unnest(%s::text[]) WITH ORDINALITY AS u(t, n) ORDER BY n', (texts,))
    for item, row in zip(wanting, env.cr.fetchall()):
        item['digest'] = row[0]


def in_waves(items):
    # An item follows those that it refers to, and an earlier item of its own key.
    placed = []
    pending = list(items)
    wave = 0
    while pending:
        waiting = set()
        for item in pending:
            waiting.update(item['pairs'])
        taken = set()
        ready = []
        later = []
        for item in pending:
            free = True
            for pair in item['pairs']:
                free = free and pair not in taken
            for pair in item['refs']:
                free = free and (pair not in waiting or pair in item['pairs'])
            taken.update(item['pairs'])
            (ready if free else later).append(item)
        if not ready:
            # A circle: whoever comes first says what it misses.
            ready, later = later[:1], later[1:]
        for item in ready:
            item['wave'] = wave
        placed.extend(ready)
        pending = later
        wave += 1
    return placed


# ---------------------------------------------------------------- keys

COLUMNS = 'k.model, k.key, k.res_id, k.version, k.digest, k.called, k.parent_model, k.parent_key'


def put_rows(keys, rows):
    for row in rows:
        keys[(row[0], row[1])] = {'res_id': row[2], 'version': row[3], 'digest': row[4], 'called': row[5] or '',
                                  'parent': (row[6], row[7]), 'there': False}


def select(pairs, tail):
    env.cr.execute('SELECT ' + COLUMNS + ' FROM dragoman_key k JOIN unnest(%s::text[], %s::text[]) AS w(m, n)'
                   ' ON k.model = w.m AND k.key = w.n ' + tail,
                   ([pair[0] for pair in pairs], [pair[1] for pair in pairs]), log_exceptions=False)
    return env.cr.fetchall()


def see_which_are_there(keys):
    ids = {}
    for pair in keys:
        if keys[pair]['res_id']:
            ids.setdefault(pair[0], []).append(keys[pair]['res_id'])
    there = {}
    for model in ids:
        there[model] = set(SUDO[model].browse(ids[model]).exists().ids) if model in SUDO else set()
    for pair in keys:
        keys[pair]['there'] = keys[pair]['res_id'] in there.get(pair[0], ())


def add_children(keys, parents):
    env.cr.execute('SELECT ' + COLUMNS + ' FROM dragoman_key k JOIN unnest(%s::text[], %s::text[]) AS w(m, n)'
                   ' ON k.parent_model = w.m AND k.parent_key = w.n',
                   ([pair[0] for pair in parents], [pair[1] for pair in parents]))
    rows = []
    for row in env.cr.fetchall():
        if (row[0], row[1]) not in keys:
            rows.append(row)
    put_rows(keys, rows)


def claim(items):
    # Rows of all keys that these items write, locked; new keys become rows before anything else is done.
    own = set()
    refs = set()
    parents = []
    for item in items:
        own.update(item['pairs'])
        refs.update(item['refs'])
        parents.append((item['model'], item['key']))
    keys = {}
    wanted = sorted(own)
    put_rows(keys, select(wanted, 'ORDER BY k.model, k.key FOR UPDATE OF k'))
    missing = []
    for pair in wanted:
        if pair not in keys:
            missing.append(pair)
    if missing:
        # Where another transaction has just put in the same key, this waits for it, and then fails with a serialization
        # failure: in Odoo's isolation level the other's row may not be read.
        env.cr.execute('INSERT INTO dragoman_key (model, key) SELECT m, n FROM unnest(%s::text[], %s::text[]) AS w(m, n)'
                       ' ON CONFLICT (model, key) DO NOTHING',
                       ([pair[0] for pair in missing], [pair[1] for pair in missing]), log_exceptions=False)
        put_rows(keys, [(pair[0], pair[1], None, None, None, '', None, None) for pair in missing])
    others = sorted(refs - own)
    if others:
        put_rows(keys, select(others, ''))
    add_children(keys, parents)
    see_which_are_there(keys)
    return keys


def keep(keys, changed):
    # Writes back the rows of `changed`, and Odoo's own external ids of what is new.
    columns = ([], [], [], [], [], [], [], [])
    names = ([], [], [])
    for pair in sorted(changed):
        row = keys[pair]
        for column, value in zip(columns, (pair[0], pair[1], row['res_id'], row['version'], row['digest'],
                                           row['called'], row['parent'][0], row['parent'][1])):
            column.append(value)
        if row.get('made'):
            # No space may be in such a name.
            names[0].append(pair[0] + '/' + pair[1].replace('%', '%25').replace(' ', '%20'))
            names[1].append(pair[0])
            names[2].append(row['res_id'])
    if not columns[0]:
        return
    env.cr.execute(
        'UPDATE dragoman_key k SET res_id = u.r, version = u.v, digest = u.d, called = u.c, parent_model = u.pm,'
        " parent_key = u.pn, applied = now() AT TIME ZONE 'UTC' FROM unnest(%s::text[], %s::text[], %s::bigint[],"
        ' %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[]) AS u(m, n, r, v, d, c, pm, pn)'
        ' WHERE k.model = u.m AND k.key = u.n', columns)
    if names[0]:
        env.cr.execute(
            'INSERT INTO ir_model_data (module, name, model, res_id, noupdate, create_uid, create_date, write_uid,'
            " write_date) SELECT '__dragoman__', n, m, r, false, %s, now() AT TIME ZONE 'UTC', %s,"
            " now() AT TIME ZONE 'UTC' FROM unnest(%s::text[], %s::text[], %s::int[]) AS u(n, m, r)"
            ' ON CONFLICT (module, name) DO UPDATE SET model = excluded.model, res_id = excluded.res_id,'
            ' write_uid = excluded.write_uid, write_date = excluded.write_date',
            (env.uid, env.uid, names[0], names[1], names[2]), log_exceptions=False)


# ---------------------------------------------------------------- values

def resolve(keys, comodel, value):
    if not isinstance(value, dict):
        return value
    if 'key' in value:
        model = value.get('model') or comodel
        row = keys.get((model, value['key']))
        if row and row['there']:
            return row['res_id']
        raise problem('Reference', 'There is no %s with the key `%s`%s.'
                      % (model, value['key'], ': it was deleted in Odoo' if row and row['res_id'] else ''))
    if 'ref' in value:
        record = SUDO.ref(value['ref'], raise_if_not_found=False)
        if record and record._name == comodel:
            return record.id
        raise problem('Reference', 'There is no %s with the external id `%s`.' % (comodel, value['ref']))
    raise problem('Reference', 'A reference is an id, {"key": …} or {"ref": …}.')


def resolve_many(keys, field, value):
    comodel = field.comodel_name
    commands = []
    plain = []
    for part in value:
        if not isinstance(part, (list, tuple)):
            plain.append(resolve(keys, comodel, part))
            continue
        command = list(part)
        if field.type == 'one2many' or command[:1] in ([0], [1], [2]):
            check_model(comodel)
        if len(command) > 2 and isinstance(command[2], dict):
            command[2] = convert(keys, comodel, command[2])
        elif len(command) > 2 and isinstance(command[2], list):
            ids = []
            for one in command[2]:
                ids.append(resolve(keys, comodel, one))
            command[2] = ids
        elif len(command) > 1:
            command[1] = resolve(keys, comodel, command[1])
        commands.append(tuple(command))
    if plain or not value:
        if field.type == 'one2many':
            check_model(comodel)
        commands.insert(0, (6, 0, plain))
    return commands


def convert(keys, model, values):
    fields = SUDO[model]._fields
    out = {}
    for name in values:
        value = values[name]
        field = fields.get(name)
        if field is not None and isinstance(value, dict) and field.type == 'many2one':
            value = resolve(keys, field.comodel_name, value)
        elif field is not None and isinstance(value, list) and field.type in ('one2many', 'many2many'):
            value = resolve_many(keys, field, value)
        out[name] = value
    return out


def takes_commands(model):
    # Newer versions drop the superuser's rights in commands for some models (contacts among them).
    try:
        return SUDO[model]._allow_sudo_commands
    except Exception:
        return True


def with_children(keys, item, fresh):
    # The item's values with commands for its children; per list the keys that are made new, in order; and the children
    # that are to be written one by one afterwards.
    values = convert(keys, item['model'], item['values'])
    made = {}
    apart = []
    fields = SUDO[item['model']]._fields
    for name in item['children']:
        comodel = fields[name].comodel_name
        commands = list(values.get(name) or [])
        together = takes_commands(comodel)
        made[name] = []
        for child in item['children'][name]:
            pair = (comodel, child['key'])
            row = keys[pair]
            theirs = convert(keys, comodel, child.get('values') or {})
            if row['res_id'] and row['parent'] != (item['model'], item['key']):
                raise problem('Children', 'The key `%s` belongs to a child of another record (%s `%s`).'
                              % (child['key'], row['parent'][0], row['parent'][1]))
            known = row['there'] and not fresh
            if row['res_id'] and not known and not item['recreate']:
                raise deleted(pair, row)
            if not together:
                apart.append((fields[name].inverse_name, pair, known, theirs))
            elif known:
                commands.append((1, row['res_id'], theirs))
            else:
                commands.append((0, 0, theirs))
                made[name].append(pair)
        if commands:
            values[name] = commands
    return values, made, apart


def deleted(pair, row):
    return problem('Deleted', '%s `%s` was imported as %s and has been deleted in Odoo since.'
                   % (pair[0], pair[1], row['res_id']))


def lists_of(record, item):
    ids = {}
    for name in item['children']:
        ids[name] = set(record.with_context(active_test=False)[name].ids)
    return ids


def name_child(keys, changed, item, pair, child):
    row = keys[pair]
    row['res_id'] = child
    row['there'] = True
    row['made'] = True
    row['parent'] = (item['model'], item['key'])
    changed.add(pair)


def write_apart(keys, changed, item, record, apart):
    for inverse, pair, known, theirs in apart:
        if known:
            SUDO[pair[0]].browse(keys[pair]['res_id']).write(theirs)
        else:
            theirs[inverse] = record.id
            name_child(keys, changed, item, pair, SUDO[pair[0]].create(theirs).id)


def name_children(keys, changed, item, record, made, before):
    # Odoo makes children in the order of their commands, so that the ids grow with it.
    if not made:
        return
    after = lists_of(record, item)
    for name in made:
        ids = sorted(after[name] - before.get(name, set()))
        if len(ids) < len(made[name]):
            raise problem('Children', '%s.%s holds fewer records than were given.' % (item['model'], name))
        for pair, child in zip(made[name], ids):
            name_child(keys, changed, item, pair, child)


# ---------------------------------------------------------------- doing it

def decide(row, item):
    if row['res_id']:
        if item['version'] is not None and row['version'] is not None and item['version'] < row['version']:
            return 'skipped'
        if not row['there']:
            if not item['recreate']:
                raise deleted((item['model'], item['key']), row)
            return 'created'
        return 'unchanged' if row['digest'] == item['digest'] else 'updated'
    return 'created'


def answer(keys, item, outcome):
    row = keys[(item['model'], item['key'])]
    out = {'key': item['key'], 'model': item['model'], 'outcome': outcome, 'id': row['res_id'] or False}
    children = {}
    for pair in keys:
        if keys[pair]['parent'] == (item['model'], item['key']) and keys[pair]['there']:
            children[pair[1]] = keys[pair]['res_id']
    if children:
        out['children'] = children
    return out


def apply_wave(keys, changed, items):
    groups = {}
    updates = []
    outcomes = []
    for item in items:
        row = keys[(item['model'], item['key'])]
        outcome = decide(row, item)
        outcomes.append(outcome)
        if outcome == 'created':
            groups.setdefault(item['model'], []).append(item)
        elif outcome == 'updated':
            updates.append(item)
    for model in groups:
        prepared = []
        for item in groups[model]:
            prepared.append(with_children(keys, item, True))
        records = SUDO[model].create([one[0] for one in prepared])
        for item, record, one in zip(groups[model], records, prepared):
            row = keys[(model, item['key'])]
            row['res_id'] = record.id
            row['there'] = True
            row['made'] = True
            row['called'] = ''
            name_children(keys, changed, item, record, one[1], {})
            write_apart(keys, changed, item, record, one[2])
    for item in updates:
        record = SUDO[item['model']].browse(keys[(item['model'], item['key'])]['res_id'])
        values, made, apart = with_children(keys, item, False)
        before = lists_of(record, item)
        if values:
            record.write(values)
        name_children(keys, changed, item, record, made, before)
        write_apart(keys, changed, item, record, apart)
    calls = {}
    for item, outcome in zip(items, outcomes):
        pair = (item['model'], item['key'])
        row = keys[pair]
        item['out'] = outcome
        if outcome == 'skipped':
            continue
        if item['version'] is not None and item['version'] != row['version']:
            row['version'] = item['version']
            changed.add(pair)
        if outcome != 'unchanged':
            row['digest'] = item['digest']
            changed.add(pair)
        if item['call'] and item['call'] not in row['called'].split(','):
            calls.setdefault((item['model'], item['call']), []).append(row['res_id'])
            row['called'] = (row['called'] + ',' if row['called'] else '') + item['call']
            changed.add(pair)
            if outcome == 'unchanged':
                item['out'] = 'updated'
    for call in calls:
        CALLS[call[1]](SUDO[call[0]].browse(calls[call]))


def apply_all(items):
    keys = claim(items)
    changed = set()
    at = 0
    while at < len(items):
        upto = at
        while upto < len(items) and items[upto]['wave'] == items[at]['wave']:
            upto += 1
        apply_wave(keys, changed, items[at:upto])
        at = upto
    keep(keys, changed)
    flush()
    for item in items:
        item['answer'] = answer(keys, item, item['out'])


def attempt(items):
    # All of the items or none of them: None, or what is wrong.
    env.cr.execute('SAVEPOINT dragoman')
    try:
        apply_all(items)
    except Exception as error:
        if not is_about_the_item(error):
            raise
        forget()
        env.cr.execute('ROLLBACK TO SAVEPOINT dragoman')
        env.cr.execute('RELEASE SAVEPOINT dragoman')
        return describe(error)
    env.cr.execute('RELEASE SAVEPOINT dragoman')
    return None


def apply_in_parts(items):
    # The whole, which is cheapest; where something in it is wrong, halves, down to single items.
    wrong = attempt(items) if items else None
    if wrong is None:
        return 0
    if len(items) == 1:
        items[0]['answer'] = {'key': items[0]['key'], 'model': items[0]['model'], 'outcome': 'error', 'error': wrong}
        return 1
    half = len(items) // 2
    return apply_in_parts(items[:half]) + apply_in_parts(items[half:])


def import_items(payload):
    env.companies  # refuses companies that are not the caller's
    items = []
    good = []
    for raw in payload['items']:
        item = try_normalise(raw)
        items.append(item)
        if 'error' in item:
            item['answer'] = {'key': item['key'], 'model': item['model'], 'outcome': 'error', 'error': item['error']}
        else:
            good.append(item)
    add_digests(good)
    atomic = bool(payload.get('atomic'))
    flush()
    if atomic:
        env.cr.execute('SAVEPOINT dragoman_atomic')
    bad = len(items) - len(good)
    if not (atomic and bad):
        bad += apply_in_parts(in_waves(good))
    if atomic and bad:
        forget()
        env.cr.execute('ROLLBACK TO SAVEPOINT dragoman_atomic')
        for item in good:
            if item.get('answer', {}).get('outcome') != 'error':
                item['answer'] = {'key': item['key'], 'model': item['model'], 'outcome': 'error', 'error': {
                    'name': 'dragoman.Atomic', 'message': 'Another item of this batch failed, and it is all or none.'}}
    if atomic:
        env.cr.execute('RELEASE SAVEPOINT dragoman_atomic')
    return [item['answer'] for item in items]


def find(wanted):
    pairs = []
    for one in wanted:
        pairs.append((str(one.get('model')), str(one.get('key'))))
    keys = {}
    put_rows(keys, select(sorted(set(pairs)), ''))
    add_children(keys, sorted(set(pairs)))
    see_which_are_there(keys)
    answers = []
    for pair in pairs:
        row = keys.get(pair)
        if not row or not row['res_id']:
            answers.append({'key': pair[1], 'model': pair[0], 'outcome': 'missing'})
            continue
        out = answer(keys, {'key': pair[1], 'model': pair[0]}, 'found' if row['there'] else 'deleted')
        out['version'] = row['version'] if row['version'] is not None else False
        out['digest'] = row['digest']
        out['called'] = row['called']
        answers.append(out)
    return answers


def main(payload):
    if not isinstance(payload, dict):
        raise UserError('The context has no `dragoman` object.')
    out = {'procedure': PROCEDURE, 'version': VERSION, 'items': []}
    if 'find' in payload:
        out['items'] = find(payload['find'])
    elif 'items' in payload:
        out['items'] = import_items(payload)
    return out


action = main(env.context.get('dragoman'))
