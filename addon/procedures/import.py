# Dragoman procedure: import
# Version: 3
# Summary: creates and updates records with their children, once per external key, and takes orders through their steps
#
# Runs as a server action on Odoo 14 to 19. Their checkers of such code decide how it is written: no import, no `with`,
# no class, no closure, no f-string, no `del d[k]`, and `try` inside functions only.
#
# Takes from the context:
#   {"dragoman": {"items": [ITEM…], "atomic": false, "names": NAMES}}  or  {"dragoman": {"find": [{"model", "key"}…]}}
#   ITEM: {"key", "model", "values": {field: value},
#          "children": {one2many field: [{"key", "values"}…]},
#          "version": n,        optional: what is applied never goes back to a smaller one
#          "digest": "…",       optional: of values and children; made here if it is not given
#          "call": "method",    optional: called on the record afterwards, once and never again; one of CALLS
#          "recreate": false,   true: make anew what somebody has deleted in Odoo
#          "names": NAMES,      optional: {model: {a name in values or domains: the field where there is none such}}
#          "replace": [field…]  optional: children of ours that are not in the list any more go, too
#   and of a sale.order, all optional:
#          "currency": "EGP",   the order's, or it is refused (dragoman.Currency)
#          "expect": {"amount_total": "530.00", "amount_untaxed": "…"}, rounded to the currency (dragoman.Total);
#          of an order that was there, of its lines alone that were imported
#          "steps": [word…],    one of STEPS each, done in their order; a step that is done already does nothing
#          (a quantity of a line that Odoo would round is refused: dragoman.Quantity)
#          "partial": false}    true: the step `deliver` delivers what there is and leaves the rest to a backorder
# A value that refers to another record is its id, {"key": "…"} (of the field's model; in one batch in any order),
# {"ref": "base.eg"}, or {"key", "model", "match": [[rule, domain]…], "values": {…}, "own": false}: the record that the key
# stands for; else the one record that the first rule with any hit finds, which the key stands for from now on; else, if
# there are `values`, a new one. `own`: a record that another key stands for is no hit. What a person said that the key
# does not stand for (see `relink`) is none either. `active`: what the key stands for is not taken for a new record while
# it is archived. A list of such values replaces
# the links; Odoo's own commands are taken, too. A field whose name ends in `?` is left out where the model has none such
# (in a domain: finds nothing); numbers may be text; taxes and unit of order lines may have their name of any version.
#
# Answers {"procedure", "version", "items": [{"key", "model", "outcome", "id", "children": {key: id}, "links": {key:
# {"model", "id", "how"}}, "flag": {"name", "message"}, "error": {"name", "message"}}…]} in the order of the items.
# outcome is created, updated, unchanged (that digest was applied before), skipped (a later version was applied before) or
# error (with the `id` where the key stands for a record that is there); of `find`: found, missing, deleted. links: the references by match; how is `key`, the rule, `created`, or `merged`:
# somebody has merged in Odoo what the key stood for into this record. flag: all was done but for what it says.
#
# The keys are rows of dragoman_key. A caller claims them before anything else; of two callers with one key the later
# waits for the earlier, gets a serialization failure, and is run again by Odoo itself with the other's rows in sight.

PROCEDURE = 'import'
VERSION = 3

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

# What may be done to an order after its values; each looks first whether it is done already.
STEPS = ('confirm', 'reserve', 'deliver', 'no_delivery', 'cancel')

# What the marketplace says of an order is written down whatever became of the order; all else of a closed one stays.
NOTES = ('cartona_id', 'delivered_by', 'is_marketplace_order')

# What Odoo makes anew when one of these is another, where it is not given with it.
MADE_ANEW = ('pricelist_id', 'payment_term_id', 'fiscal_position_id', 'user_id', 'team_id', 'warehouse_id')
MAKES_ANEW = ('partner_id', 'partner_invoice_id', 'partner_shipping_id', 'user_id', 'team_id')

# What one version calls otherwise than another.
OTHER_NAMES = {('sale.order.line', 'tax_ids'): 'tax_id', ('sale.order.line', 'tax_id'): 'tax_ids',
               ('sale.order.line', 'product_uom_id'): 'product_uom',
               ('sale.order.line', 'product_uom'): 'product_uom_id'}

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


def is_only_the_items(error):
    # After an error of the database nothing goes on before the savepoint.
    return sql_state(error) is None and is_about_the_item(error)


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


def field_name(names, model, name):
    # The field in this Odoo, or None if it is left out.
    optional = name.endswith('?')
    if optional:
        name = name[:-1]
    fields = SUDO[model]._fields
    if name not in fields:
        name = names.get(model, {}).get(name, OTHER_NAMES.get((model, name), name))
    return None if optional and name not in fields else name


def gather_one(comodel, value, found, depth):
    # What is no text is no key, and is refused when it is resolved.
    if isinstance(value, dict) and isinstance(value.get('key'), str):
        model = value.get('model') or comodel
        if not isinstance(model, str):
            return
        pair = (model, value['key'])
        found['refs'].append(pair)
        if 'match' not in value and 'values' not in value:
            return
        check_wanted(model, value)
        found['top'].append(pair)
        if pair not in found['wanted']:
            inner = {'refs': [], 'wanted': {}, 'top': [], 'names': found['names']}
            gather(model, value.get('values') or {}, inner, depth + 1)
            found['refs'].extend(inner['refs'])
            found['wanted'].update(inner['wanted'])
            found['wanted'][pair] = {'match': value.get('match') or [], 'values': value.get('values'),
                                     'own': bool(value.get('own')), 'depth': depth, 'inner': inner['top'],
                                     'active': bool(value.get('active'))}


def check_wanted(model, value):
    check_model(model)
    check_key(value['key'])
    if '\n' in value['key'] or '\t' in value['key']:
        raise problem('Item', 'A key that is looked for holds no line ends and no tabs.')
    if value.get('values') is not None and not isinstance(value['values'], dict):
        raise problem('Item', '`values` of a reference is an object.')
    match = value.get('match') or []
    if not isinstance(match, list):
        raise problem('Item', '`match` is a list of rules, each its name and its domain.')
    for rule in match:
        if not isinstance(rule, list) or len(rule) != 2 or not isinstance(rule[0], str) \
                or not isinstance(rule[1], list) or not rule[1]:
            raise problem('Item', '`match` is a list of rules, each its name and its domain.')


def gather(model, values, found, depth=0):
    # The keys that values refer to.
    if depth > 4:
        raise problem('Item', 'References lie more than four deep in each other.')
    fields = SUDO[model]._fields
    for given in values:
        value = values[given]
        if not isinstance(value, (dict, list)):
            continue
        name = field_name(found['names'], model, given)
        if name not in fields:
            continue
        comodel = fields[name].comodel_name
        if isinstance(value, dict):
            gather_one(comodel, value, found, depth)
            continue
        for part in value:
            if not isinstance(part, list):
                gather_one(comodel, part, found, depth)
            elif len(part) > 2 and isinstance(part[2], dict):
                gather(comodel, part[2], found, depth + 1)
            elif len(part) > 2 and isinstance(part[2], list):
                for one in part[2]:
                    gather_one(comodel, one, found, depth)
            elif len(part) > 1:
                gather_one(comodel, part[1], found, depth)


def check_key(key):
    # It is part of two indexes, in one of them escaped.
    if not isinstance(key, str) or not key or '\x00' in key or len(key.encode('utf-8')) > 500:
        raise problem('Item', 'An external key is a text of 1 to 500 bytes.')


def check_names(names):
    if not isinstance(names, dict):
        raise problem('Item', '`names` is an object of models, each an object of names.')
    for model in names:
        if not isinstance(names[model], dict):
            raise problem('Item', '`names` is an object of models, each an object of names.')
        for name in names[model]:
            if not isinstance(names[model][name], str):
                raise problem('Item', 'A name in `names` is a text.')
    return names


def read_number(text, what):
    try:
        return float(text)
    except Exception:
        raise problem('Item', '`%s` is no number: %s.' % (what, text))


def check_order(raw, model, item):
    # What only orders have.
    for name in ('steps', 'expect', 'currency'):
        if raw.get(name) and model != 'sale.order':
            raise problem('Item', '`%s` is for sale.order, not for %s.' % (name, model))
    steps = raw.get('steps') or []
    if not isinstance(steps, list):
        raise problem('Item', '`steps` is a list.')
    for step in steps:
        if step not in STEPS:
            raise problem('Item', '`%s` is none of the steps: %s.' % (step, ', '.join(STEPS)))
    expect = raw.get('expect') or {}
    if not isinstance(expect, dict):
        raise problem('Item', '`expect` is an object.')
    for name in expect:
        if name not in ('amount_total', 'amount_untaxed', 'amount_tax'):
            raise problem('Item', '`%s` is none of the amounts of an order.' % name)
        read_number(expect[name], name)
    if steps or expect:
        for name in item['children']:
            for child in item['children'][name]:
                quantity = (child.get('values') or {}).get('product_uom_qty')
                if quantity is not None and not read_number(quantity, 'product_uom_qty') >= 0:
                    raise problem('Quantity', 'The line `%s` has the quantity %s.' % (child['key'], quantity))
    item['steps'] = steps
    item['expect'] = expect
    item['currency'] = raw.get('currency') or ''
    item['partial'] = bool(raw.get('partial'))


def normalise(raw, names):
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
    if raw.get('names'):
        names = dict(names)
        names.update(check_names(raw['names']))
    found = {'refs': [], 'wanted': {}, 'top': [], 'names': names}
    gather(model, values, found)
    replace = raw.get('replace') or []
    if not isinstance(replace, list):
        raise problem('Item', '`replace` is a list of lists of children.')
    for name in replace:
        if name not in children:
            raise problem('Item', '`%s` is to be replaced, and no children are given for it.' % name)
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
            gather(comodel, child.get('values') or {}, found)
    item = {'key': raw['key'], 'model': model, 'values': values, 'children': children, 'version': version,
            'digest': raw.get('digest'), 'call': call, 'recreate': bool(raw.get('recreate')), 'pairs': pairs,
            'refs': found['refs'], 'wanted': found['wanted'], 'top': found['top'], 'names': names, 'replace': replace, 'wave': 0}
    check_order(raw, model, item)
    return item


def try_normalise(raw, names):
    try:
        return normalise(raw, names)
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

COLUMNS = ('k.model, k.key, k.res_id, k.version, k.digest, k.called, k.parent_model, k.parent_key, k.links,'
           ' k.refused')


def put_rows(keys, rows):
    for row in rows:
        keys[(row[0], row[1])] = {'res_id': row[2], 'version': row[3], 'digest': row[4], 'called': row[5] or '',
                                  'parent': (row[6], row[7]), 'links': row[8] or '', 'refused': row[9] or '',
                                  'there': False, 'how': 'key'}


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
    # Rows of all keys that these items write, locked; new keys become rows before anything else is done. Of the keys
    # that are looked for only those that stand for nothing yet: all orders would wait for each other at a product.
    own = set()
    refs = set()
    looked_for = set()
    parents = []
    for item in items:
        own.update(item['pairs'])
        refs.update(item['refs'])
        looked_for.update(item['wanted'])
        parents.append((item['model'], item['key']))
    known = {}
    if looked_for:
        put_rows(known, select(sorted(looked_for), ''))
        see_which_are_there(known)
    for pair in looked_for:
        if pair not in known or not known[pair]['there']:
            own.add(pair)
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
        put_rows(keys, [(pair[0], pair[1], None, None, None, '', None, None, '', '') for pair in missing])
    others = sorted(refs - own)
    if others:
        put_rows(keys, select(others, ''))
    add_children(keys, parents)
    see_which_are_there(keys)
    return keys


def external_name(pair):
    # What Odoo's own external id of a key is called. No space may be in such a name.
    return pair[0] + '/' + pair[1].replace('%', '%25').replace(' ', '%20')


def follow_merged(keys, changed, items):
    # Whoever merges two contacts in Odoo says that they are one: Odoo moves the external ids of the one that goes, and
    # its key stands for the other from then on, whichever key that has already.
    names = {}
    for item in items:
        for pair in item['wanted']:
            if keys[pair]['res_id'] and not keys[pair]['there']:
                names[external_name(pair)] = pair
    if not names:
        return
    env.cr.execute("SELECT name, res_id FROM ir_model_data WHERE module = '__dragoman__' AND name = ANY(%s)",
                   (sorted(names),))
    for name, res_id in env.cr.fetchall():
        pair = names[name]
        if res_id != keys[pair]['res_id'] and SUDO[pair[0]].browse(res_id).exists():
            bind(keys, changed, pair, res_id, 'merged')


def keep(keys, changed):
    # Writes back the rows of `changed`, and Odoo's own external ids of what is new.
    columns = ([], [], [], [], [], [], [], [], [])
    names = ([], [], [])
    for pair in sorted(changed):
        row = keys[pair]
        for column, value in zip(columns, (pair[0], pair[1], row['res_id'], row['version'], row['digest'],
                                           row['called'], row['parent'][0], row['parent'][1], row['links'])):
            column.append(value)
        if row.get('made'):
            names[0].append(external_name(pair))
            names[1].append(pair[0])
            names[2].append(row['res_id'])
    if not columns[0]:
        return
    env.cr.execute(
        'UPDATE dragoman_key k SET res_id = u.r, version = u.v, digest = u.d, called = u.c, parent_model = u.pm,'
        " parent_key = u.pn, links = u.l, applied = now() AT TIME ZONE 'UTC' FROM unnest(%s::text[], %s::text[],"
        ' %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])'
        ' AS u(m, n, r, v, d, c, pm, pn, l)'
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


def resolve_many(keys, field, value, names):
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
            command[2] = convert(keys, comodel, command[2], names)
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


def convert(keys, model, values, names):
    fields = SUDO[model]._fields
    out = {}
    for given in values:
        value = values[given]
        name = field_name(names, model, given)
        if name is None:
            continue
        field = fields.get(name)
        if field is None and given in names.get(model, {}):
            raise problem('Field', 'The field %s of %s is not in this Odoo, where `%s` belongs.' % (name, model, given))
        if field is not None and isinstance(value, dict) and field.type == 'many2one':
            value = resolve(keys, field.comodel_name, value)
        elif field is not None and isinstance(value, list) and field.type in ('one2many', 'many2many'):
            value = resolve_many(keys, field, value, names)
        elif field is not None and isinstance(value, str) and field.type in ('float', 'monetary'):
            value = read_number(value, name)
        out[name] = value
    if model == 'sale.order.line':
        price_by_hand(fields, out)
    return out


def price_by_hand(fields, line):
    # Odoo 19 keeps a price through a change of the quantity only where it is another than what Odoo reckoned itself, and
    # takes one that is given alone for that. So it gets one that no price is.
    if 'technical_price_unit' in fields and 'price_unit' in line and 'technical_price_unit' not in line:
        line['technical_price_unit'] = 1.0 if (line['price_unit'] or 0.0) < 0.0 else -1.0


def takes_commands(model):
    # Newer versions drop the superuser's rights in commands for some models (contacts among them).
    try:
        return SUDO[model]._allow_sudo_commands
    except Exception:
        return True


def with_children(keys, item, fresh):
    # The item's values with commands for its children; per list the keys that are made new, in order; and the children
    # that are to be written one by one afterwards.
    values = convert(keys, item['model'], item['values'], item['names'])
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
            theirs = convert(keys, comodel, child.get('values') or {}, item['names'])
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
        if name in item['replace'] and not fresh:
            commands.extend(removals(keys, item, comodel))
        if commands:
            values[name] = commands
    return values, made, apart


def removals(keys, item, comodel):
    # Commands that take away children of ours that the item has no more. A line of a confirmed order stays, of nothing.
    commands = []
    parent = (item['model'], item['key'])
    for pair in sorted(keys):
        row = keys[pair]
        if row['parent'] != parent or pair[0] != comodel or not row['there'] or pair in item['pairs']:
            continue
        if comodel == 'sale.order.line' and SUDO[comodel].browse(row['res_id']).order_id.state not in ('draft', 'sent'):
            commands.append((1, row['res_id'], {'product_uom_qty': 0}))
        else:
            commands.append((2, row['res_id'], 0))
            item['removed'].append(pair)
    return commands


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


# ---------------------------------------------------------------- records that are looked for

def company_of(item):
    company = item['values'].get('company_id')
    return company if isinstance(company, int) and company else env.company.id


def translate(names, model, domain):
    out = []
    for leaf in domain:
        if not isinstance(leaf, list) or len(leaf) != 3 or not isinstance(leaf[0], str):
            out.append(leaf)
            continue
        path = leaf[0].split('.')
        if path[-1].endswith('?'):
            path[-1] = path[-1][:-1]
            path[0] += '?'
        if path[0] in names.get(model, {}):
            # One of the marketplace's own, which nobody has been marked with where there is no such field.
            path[0] += '?'
        path[0] = field_name(names, model, path[0])
        out.append((0, '=', 1) if path[0] is None else ('.'.join(path), leaf[1], leaf[2]))
    return out


def shown(domain):
    # The values of a rule, for people.
    parts = []
    for leaf in domain:
        if isinstance(leaf, (list, tuple)) and len(leaf) == 3 and leaf[0] != 0:
            value = leaf[2]
            if isinstance(value, list):
                value = ' or '.join([str(one) for one in value])
            parts.append('%s %s' % (leaf[0], value))
    return ', '.join(parts)


def titles(records):
    return ' and '.join(['%s (%s)' % (record.display_name, record.id) for record in records])


def taken_by_others(pair, ids, plans):
    # Which of these records another key stands for.
    env.cr.execute('SELECT res_id FROM dragoman_key WHERE model = %s AND res_id = ANY(%s::bigint[]) AND key <> %s',
                   (pair[0], list(ids), pair[1]))
    taken = set()
    for row in env.cr.fetchall():
        taken.add(row[0])
    for other in plans:
        if other != pair and other[0] == pair[0] and plans[other].get('id'):
            taken.add(plans[other]['id'])
    return taken


# Records that one search for the references of a batch may find; where there are more, each reference has its own.
LOOK_AHEAD_MAX = 2000


def plain_rule(item, model, rule):
    # The field and the values of a rule that asks for values of one plain field, or None. Terms behind it that name the
    # values of another plain field narrow what is found.
    domain = translate(item['names'], model, rule[1])
    if not domain or not isinstance(domain[0], tuple) or domain[0][1] not in ('=', 'in'):
        return None
    for term in domain[1:]:
        field = SUDO[model]._fields.get(term[0]) if isinstance(term, tuple) else None
        if field is None or field.type != 'char' or not field.store or field.translate or term[1] != 'in' \
                or not isinstance(term[2], list):
            return None
    name, operator, value = domain[0]
    field = SUDO[model]._fields.get(name)
    if field is None or not field.store or field.company_dependent or field.type not in ('char', 'integer'):
        return None
    if field.type == 'char' and field.translate:
        return None
    values = value if operator == 'in' and isinstance(value, list) else [value]
    for one in values:
        if field.type == 'char':
            if not isinstance(one, str) or not one or '\x00' in one:
                return None
        elif isinstance(one, bool) or not isinstance(one, int) or one < 1 or one > 2147483647:
            return None
    return (name, values) if values else None


def try_plain_rule(item, model, rule):
    try:
        return plain_rule(item, model, rule)
    except Exception as error:
        if not is_only_the_items(error):
            raise
        return None


def search_all(model, company, name, values):
    # {value: ids} of what has one of these values, or None if that is too much.
    found = search_in(model, company).search([(name, 'in', values)] + of_company(model, company),
                                             limit=LOOK_AHEAD_MAX + 1, order='id')
    if len(found) > LOOK_AHEAD_MAX:
        return None
    hits = {}
    for record in found:
        hits.setdefault(record[name], []).append(record.id)
    return hits


def look_ahead(keys, items):
    # What the rules of these items' references find, by (model, company, field): one search each, and not one for every
    # reference.
    asked = {}
    for item in items:
        for pair in item['wanted']:
            if not keys[pair]['there']:
                for rule in item['wanted'][pair]['match']:
                    asks = try_plain_rule(item, pair[0], rule)
                    if asks:
                        asked.setdefault((pair[0], company_of(item), asks[0]), set()).update(asks[1])
    seen = {}
    for one in asked:
        if len(asked[one]) > 2:
            seen[one] = search_all(one[0], one[1], one[2], list(asked[one]))
    return seen


def search_in(model, company):
    return SUDO[model].with_context(allowed_company_ids=[company])


def of_company(model, company):
    return [('company_id', 'in', [False, company])] if 'company_id' in SUDO[model]._fields else []


def hits_of(pair, rule, domain, item, seen, most):
    # The first records that a rule finds.
    company = company_of(item)
    asks = plain_rule(item, pair[0], rule)
    hits = seen.get((pair[0], company, asks[0])) if asks else None
    if hits is None:
        return search_in(pair[0], company).search(domain + of_company(pair[0], company), limit=most, order='id')
    ids = set()
    for value in asks[1]:
        ids.update(hits.get(value, []))
    found = search_in(pair[0], company).browse(sorted(ids))
    for term in domain[1:]:
        # Of what was searched for together all columns are known by now.
        ids = []
        for record in found:
            if (record[term[0]] or False) in term[2]:
                ids.append(record.id)
        found = found.browse(ids)
    return found[:most]


def refused_of(row):
    ids = set()
    for one in row['refused'].split():
        ids.add(int(one))
    return ids


def look_for(pair, wanted, item, plans, seen, refused):
    # What becomes of one reference: {'id', 'how'}, {'values'} or {'error'}. `refused`: ids that it is not.
    model = search_in(pair[0], company_of(item))
    tail = of_company(pair[0], company_of(item))
    tried = []
    for rule in wanted['match']:
        domain = translate(item['names'], pair[0], rule[1])
        hits = hits_of(pair, rule, domain, item, seen, 20 if wanted['own'] or refused else 2)
        if refused:
            hits = model.browse(without(hits.ids, refused))
        if wanted['own'] and hits:
            taken = taken_by_others(pair, hits.ids, plans)
            hits = model.browse(without(hits.ids, taken))
        if len(hits) > 1:
            return {'error': {'name': 'dragoman.Ambiguous', 'message': 'More than one %s is found by %s (%s): %s.' % (
                pair[0], rule[0], shown(domain), titles(hits[:2]))}}
        if hits:
            return {'id': hits.id, 'how': rule[0]}
        tried.append((rule[0], domain))
    if wanted['values'] is not None:
        return {'values': wanted['values']}
    archived = ''
    if 'active' in model._fields:
        for rule, domain in tried:
            hits = model.with_context(active_test=False).search(domain + tail, limit=2, order='id')
            if hits:
                archived = ' Archived: %s.' % titles(hits)
                break
    return {'error': {'name': 'dragoman.NotMatched', 'message': 'No %s is found for `%s`, tried: %s.%s' % (
        pair[0], pair[1], '; '.join(['%s (%s)' % (one[0], shown(one[1])) for one in tried]) or 'nothing', archived)}}


def try_look_for(pair, wanted, item, plans, seen, refused):
    try:
        return look_for(pair, wanted, item, plans, seen, refused)
    except Exception as error:
        if not is_only_the_items(error):
            raise
        return {'error': describe(error)}


def without(ids, taken):
    left = []
    for one in ids:
        if one not in taken:
            left.append(one)
    return left


def read_active(keys, items):
    # Reads once for all of them whether they are archived.
    there = {}
    for item in items:
        for pair in item['wanted']:
            if item['wanted'][pair]['active'] and keys[pair]['there']:
                there.setdefault(pair[0], set()).add(keys[pair]['res_id'])
    for model in there:
        if 'active' in SUDO[model]._fields:
            SUDO[model].browse(list(there[model])).mapped('active')


def archived(keys, item, pair):
    # A new record wants what is active; one that is in Odoo goes on with what it has.
    if not item['wanted'][pair]['active'] or keys[(item['model'], item['key'])]['there']:
        return None
    record = SUDO[pair[0]].browse(keys[pair]['res_id'])
    if 'active' not in record._fields or record.active:
        return None
    return {'name': 'dragoman.NotMatched', 'message': 'No %s is found for `%s`. Archived: %s.' % (
        pair[0], pair[1], titles(record))}


def plan_links(keys, items):
    # Says for each reference by match what it is, and takes out the items of which one is nothing. Nothing is written.
    plans = {}
    seen = look_ahead(keys, items)
    read_active(keys, items)
    for item in items:
        failed = None
        waiting = list(item['top'])
        while waiting and failed is None:
            pair = waiting.pop()
            if pair in item['needs']:
                continue
            item['needs'].append(pair)
            wanted = item['wanted'][pair]
            if keys[pair]['there']:
                failed = archived(keys, item, pair)
                continue
            if pair not in plans:
                plan = try_look_for(pair, wanted, item, plans, seen, refused_of(keys[pair]))
                plan.update({'company': company_of(item), 'depth': wanted['depth'], 'own': wanted['own'],
                             'names': item['names']})
                plans[pair] = plan
            failed = plans[pair].get('error')
            if plans[pair].get('values') is not None:
                waiting.extend(wanted['inner'])
        item['failed'] = failed
    return plans


def make_links(keys, changed, items, plans):
    # What the remaining items need: found records are bound to their keys, all that are to be made are made together.
    needed = []
    for item in items:
        for pair in item['needs']:
            if pair in plans and pair not in needed:
                needed.append(pair)
    bound = []
    groups = {}
    for pair in needed:
        plan = plans[pair]
        if plan.get('id'):
            if plan['own']:
                bound.append(('own ' + pair[0], str(plan['id'])))
            bind(keys, changed, pair, plan['id'], plan['how'])
        else:
            groups.setdefault((-plan['depth'], pair[0], plan['company']), []).append(pair)
    if bound:
        # Of two callers that found one record for two keys of their own, the later is run again and sees that.
        bound = sorted(set(bound))
        env.cr.execute('INSERT INTO dragoman_key (model, key) SELECT m, n FROM unnest(%s::text[], %s::text[]) AS w(m, n)'
                       ' ON CONFLICT (model, key) DO NOTHING',
                       ([one[0] for one in bound], [one[1] for one in bound]), log_exceptions=False)
    for group in sorted(groups):
        prepared = []
        for pair in groups[group]:
            prepared.append(convert(keys, pair[0], plans[pair]['values'], plans[pair]['names']))
        records = SUDO[group[1]].with_context(allowed_company_ids=[group[2]]).create(prepared)
        for pair, record in zip(groups[group], records):
            bind(keys, changed, pair, record.id, 'created')


def bind(keys, changed, pair, res_id, how):
    row = keys[pair]
    row['res_id'] = res_id
    row['there'] = True
    row['how'] = how
    row['made'] = True
    changed.add(pair)


# ---------------------------------------------------------------- orders

def delivered_from(order):
    for picking in order.picking_ids:
        if picking.state == 'done' and picking.picking_type_id.code == 'outgoing':
            return True
    for line in order.order_line:
        if line.qty_delivered > 0:
            return True
    return False


def is_locked(order):
    return order.state == 'done' or ('locked' in order._fields and order.locked)


def why_closed(order):
    if order.state == 'cancel':
        return 'is cancelled'
    if is_locked(order):
        return 'is locked'
    if order.state == 'sale' and delivered_from(order):
        return 'has been delivered from'
    return ''


def same(record, name, value):
    # Whether a field holds that value already, as this field writes it down.
    field = record._fields.get(name)
    if field is None:
        return False
    try:
        if field.type == 'many2many':
            ids = set()
            for command in value or []:
                if command[0] != 6:
                    return False
                ids.update(command[2])
            return ids == set(record[name].ids)
        there = field.convert_to_cache(record[name], record)
        new = field.convert_to_cache(value, record)
        if field.name == 'product_uom_qty':
            # As it is given: what Odoo would round to the old one is another one, which is refused then.
            return is_kept(float(value or 0.0), there)
        if field.type in ('float', 'monetary'):
            return abs((there or 0.0) - (new or 0.0)) < 0.0000005
        return (there or None) == (new or None)
    except Exception as error:
        if sql_state(error) is not None:
            raise
        return False


def is_kept(given, there):
    return abs(given - there) <= 0.000001 * abs(given)


def line_changes(line, values):
    # Nothing, or what has to be given again with what differs: a price that is left out would be made anew for another
    # quantity. How Odoo came to a price is no difference.
    differs = False
    out = {}
    for name in values:
        equal = same(line, name, values[name])
        differs = differs or not (equal or name == 'technical_price_unit')
        if name != 'product_id' or not equal:
            out[name] = values[name]
    return out if differs else {}


def is_note(name):
    return name.startswith('x_') or name.startswith('marketplace_') or name in NOTES


def only_changes(order, item, values):
    # Of an order only what is different is written: that neither calls for new deliveries nor opens what is closed.
    out = {}
    content = []
    again = {}
    for name in values:
        if name in item['children']:
            commands = []
            for command in values[name]:
                if command[0] == 1:
                    theirs = line_changes(SUDO[order._fields[name].comodel_name].browse(command[1]), command[2])
                    if theirs:
                        commands.append((1, command[1], theirs))
                else:
                    commands.append(command)
            if commands:
                out[name] = commands
                content.append(name)
        elif name == 'date_order' and order.state not in ('draft', 'sent'):
            # Odoo's own since it was confirmed.
            pass
        elif name == 'company_id':
            # An order stays with the company that it was made in: its transfers and invoices are of that.
            pass
        elif not same(order, name, values[name]):
            out[name] = values[name]
            if not is_note(name):
                content.append(name)
        elif name in MADE_ANEW:
            again[name] = values[name]
    for name in MAKES_ANEW:
        if name in out:
            # Odoo 17 and later refuse the price list of a confirmed order, be it the one that it has; see `update`.
            if order.state not in ('draft', 'sent'):
                again.pop('pricelist_id', None)
            out.update(again)
            break
    closed = why_closed(order) if content else ''
    if closed:
        raise problem('Closed', '%s %s in Odoo, and what changed is left as it is there: %s.'
                      % (order.name, closed, ', '.join(content)))
    if not content:
        notes = {}
        for name in out:
            if is_note(name):
                notes[name] = out[name]
        return notes, False
    return out, True


def lower_moves(order):
    # Where less is ordered than before, 14 leaves the transfer as it was.
    for line in order.order_line:
        moves = []
        demand = 0.0
        for move in line.move_ids:
            if move.state not in ('done', 'cancel') and move.location_dest_id.usage == 'customer' \
                    and move.product_id == line.product_id:
                moves.append(move)
                demand += move.product_qty
        wanted = line.product_uom_qty - line.qty_delivered
        for unit in ('product_uom_id', 'product_uom'):
            if moves and unit in line._fields:
                wanted = line[unit]._compute_quantity(wanted, line.product_id.uom_id)
                break
        for move in moves[::-1]:
            over = demand - max(wanted, 0.0)
            if over < 0.000001:
                break
            demand -= min(over, move.product_qty)
            if over > move.product_qty - 0.000001:
                move._action_cancel()
            else:
                assigned = move.state in ('assigned', 'partially_available')
                move.write({'product_uom_qty': move.product_id.uom_id._compute_quantity(
                    move.product_qty - over, move.product_uom)})
                if assigned:
                    move._action_assign()


def plain(number):
    return ('%.6f' % number).rstrip('0').rstrip('.')


def check_quantities(keys, items):
    # Odoo rounds a quantity without a word to the digits that it is set to, which a line of no price, or two lines that are
    # rounded up and down, hide from the total. Of what was written every line has what was given.
    asked = []
    for item in items:
        if item['model'] == 'sale.order' and item['written'] and 'cancel' not in item['steps']:
            for name in item['children']:
                for child in item['children'][name]:
                    row = keys.get(('sale.order.line', child['key']))
                    given = (child.get('values') or {}).get('product_uom_qty')
                    if row and given is not None and given is not False:
                        asked.append((item, row['res_id'], child['key'], given))
    wrong = []
    lines = SUDO['sale.order.line'].browse([one[1] for one in asked])
    for one, line in zip(asked, lines):
        if is_kept(read_number(one[3], 'product_uom_qty'), line.product_uom_qty):
            continue
        unit = line.product_uom_id if 'product_uom_id' in line._fields else line.product_uom
        digits = line._fields['product_uom_qty'].get_digits(SUDO)
        wrong.append((one[0], {'name': 'dragoman.Quantity', 'message': 'The line `%s` (%s) has the quantity %s, and Odoo keeps'
                               ' %s %s of it: the decimal accuracy of `%s` in Odoo is %s digits.' % (
                                   one[2], line.product_id.display_name, one[3], plain(line.product_uom_qty), unit.name,
                                   accuracy_of(line._fields['product_uom_qty']), digits[1] if digits else 'no')}))
    return wrong


def accuracy_of(field):
    return field._digits if isinstance(field._digits, str) else 'Product Unit of Measure'


def imported_lines(keys):
    # Ids of the lines that were imported with each order.
    ours = {}
    for pair in keys:
        if pair[0] == 'sale.order.line' and keys[pair]['there'] and keys[pair]['parent'][0] == 'sale.order':
            ours.setdefault(keys[pair]['parent'][1], set()).add(keys[pair]['res_id'])
    return ours


def lines_besides(order, ours):
    # Sections and notes count nothing.
    ids = []
    for line in order.order_line:
        if not line.display_type and line.id not in ours:
            ids.append(line.id)
    return SUDO['sale.order.line'].browse(ids)


def amount_of(lines, name):
    # As an order of these lines alone would have it.
    untaxed = 0.0 if name == 'amount_tax' else sum(lines.mapped('price_subtotal'))
    return untaxed + (0.0 if name == 'amount_untaxed' else sum(lines.mapped('price_tax')))


def total_error(item, order, name, amount, others):
    shown = ('%.' + str(order.currency_id.decimal_places) + 'f') % amount
    message = '%s is %s, and the order adds up to %s in Odoo.' % (name, item['expect'][name], shown)
    if others:
        names = []
        for line in others[:5]:
            names.append(line.product_id.display_name or line.name)
        more = ' and %s more' % (len(others) - 5) if len(others) > 5 else ''
        message = ('%s is %s, and the order adds up to %s in Odoo, with lines that were not imported: %s%s.' if item['fresh']
                   else '%s is %s, and the imported lines of the order add up to %s in Odoo. Lines that were added there are left'
                   ' out of that: %s%s.') % (name, item['expect'][name], shown, ', '.join(names), more)
    return {'name': 'dragoman.Total', 'message': message}


def check_amounts(keys, items):
    # What does not add up, of each that does not. Lines that people added to an order stay and are left out. In one that was
    # made just now nobody has added any, and the customer would pay what Odoo put there by itself.
    wrong = []
    asking = []
    for item in items:
        # What an order that is to be cancelled adds up to is of no interest.
        if item['written'] and (item['expect'] or item['currency']) and 'cancel' not in item['steps']:
            asking.append(item)
    orders = SUDO['sale.order'].browse([item['written'] for item in asking])
    ours = imported_lines(keys) if asking else {}
    for item, order in zip(asking, orders):
        if item['currency'] and order.currency_id.name != item['currency']:
            wrong.append((item, {'name': 'dragoman.Currency', 'message': 'The order would be in %s, and its amounts are in'
                                 ' %s.' % (order.currency_id.name, item['currency'])}))
            continue
        others = lines_besides(order, ours.get(item['key'], set())) if item['expect'] else []
        for name in sorted(item['expect']):
            amount = order[name] if item['fresh'] or not others else amount_of(order.order_line - others, name)
            if order.currency_id.compare_amounts(read_number(item['expect'][name], name), amount) != 0:
                wrong.append((item, total_error(item, order, name, amount, others)))
                break
    return wrong


def open_pickings(order):
    out = []
    for picking in order.picking_ids.sorted('id'):
        if picking.state not in ('done', 'cancel') and picking.picking_type_id.code in ('outgoing', 'internal'):
            out.append(picking)
    return out


def reserved_of(move):
    # In the unit of the move.
    if 'quantity' in move._fields:
        return move.quantity
    return move.reserved_availability


def moves_of(picking):
    out = []
    for move in (picking.move_ids if 'move_ids' in picking._fields else picking.move_lines):
        if move.state not in ('done', 'cancel'):
            out.append(move)
    return out


def lowered_by_hand(move):
    # What somebody has typed in as done, if it is less than is asked though there is more; else nothing.
    if 'picked' in move._fields:
        typed = move.quantity if move.picked else 0.0
    else:
        typed = move.quantity_done
    if typed < 0.000001 or move.product_uom_qty - typed < 0.000001:
        return 0.0
    if move._should_bypass_reservation() or reserved_of(move) - typed > 0.000001:
        return typed
    free = SUDO['stock.quant']._get_available_quantity(move.product_id, move.location_id)
    return typed if free > 0.000001 else 0.0


def check_by_hand(picking):
    # What somebody is at is neither taken for a lack nor delivered in full behind their back.
    typed = []
    for move in moves_of(picking):
        quantity = lowered_by_hand(move)
        if quantity:
            typed.append('%s: %s of %s %s' % (move.product_id.display_name, '%g' % quantity, '%g' % move.product_uom_qty,
                                              move.product_uom.name))
    if typed:
        raise problem('Stock', 'Somebody has set %s to less than was ordered, though there is more in stock, and it is left'
                      ' to them: %s.' % (picking.name, '; '.join(typed)))


def deliver_picking(picking, partial):
    # Delivers what is reserved, or says what is missing. False: nothing of it is reserved.
    if picking.state == 'draft':
        picking.action_confirm()
    check_by_hand(picking)
    for move in moves_of(picking):
        if move.state not in ('assigned', 'draft'):
            move._action_assign()
    missing = []
    there = False
    for move in moves_of(picking):
        short = move.product_uom_qty - reserved_of(move)
        if short > 0.000001:
            missing.append('%s: %s %s missing' % (move.product_id.display_name, '%g' % short, move.product_uom.name))
        if reserved_of(move) > 0.000001:
            there = True
    if missing and not partial:
        raise problem('Stock', 'Not enough in stock to deliver %s: %s.' % (picking.name, '; '.join(missing)))
    if not there:
        return False
    for move in moves_of(picking):
        if 'picked' in move._fields:
            move.write({'picked': reserved_of(move) > 0.000001})
        else:
            for line in move.move_line_ids:
                line.write({'qty_done': line.product_uom_qty})
    result = picking.with_context(skip_backorder=True, skip_immediate=True, skip_sms=True, skip_expired=True,
                                  cancel_backorder=False).button_validate()
    if picking.state != 'done':
        asked = result.get('res_model') if isinstance(result, dict) else ''
        raise problem('Stock', '%s could not be completed%s.' % (picking.name, ': Odoo asks by %s' % asked if asked else ''))
    return True


def deliver_order(order, partial):
    # Each transfer in turn: of a route with several steps the next one opens when the one before is done.
    did = False
    for step in range(20):
        forward = False
        for picking in open_pickings(order):
            if picking.state == 'waiting':
                continue
            forward = deliver_picking(picking, partial) or forward
        did = did or forward
        if not forward:
            break
        order.invalidate_recordset(['picking_ids']) if NEW_CURSOR else order.invalidate_cache(['picking_ids'])
    left = open_pickings(order)
    if left and not did and not (partial and delivered_from(order)):
        raise problem('Stock', 'Nothing of %s is in stock: %s stays open.' % (order.name, left[0].name))
    if left and not partial:
        raise problem('Stock', '%s could not be delivered in full: %s stays open.' % (order.name, left[0].name))
    return did


def returned_of(line):
    # What came back of it, in the unit of the line: that it was delivered stays true.
    out = 0.0
    for move in line.move_ids:
        if move.state == 'done' and move.location_id.usage == 'customer' and move.to_refund \
                and move.product_id == line.product_id:
            unit = line.product_uom_id if 'product_uom_id' in line._fields else line.product_uom
            done = move.quantity if 'quantity' in move._fields else move.quantity_done
            out += move.product_uom._compute_quantity(done, unit)
    return out


def flag_undelivered(item, order, partial):
    # The marketplace says that it is delivered; what people cancelled of it in Odoo is not, and nothing will come of it.
    if partial and open_pickings(order):
        return
    short = []
    for line in order.order_line:
        if 'qty_delivered_method' not in line._fields or line.qty_delivered_method != 'stock_move':
            continue
        delivered = line.qty_delivered
        if delivered < line.product_uom_qty - 0.000001:
            delivered += returned_of(line)
        if delivered < line.product_uom_qty - 0.000001:
            unit = line.product_uom_id if 'product_uom_id' in line._fields else line.product_uom
            short.append('%s: %s of %s %s' % (line.product_id.display_name, '%g' % delivered, '%g' % line.product_uom_qty,
                                              unit.name))
    if short:
        more = '; and %s more lines' % (len(short) - 5) if len(short) > 5 else ''
        item['flag'] = {'name': 'dragoman.Undelivered', 'message': 'The marketplace says that %s is delivered, and in Odoo it'
                        ' is %s: %s%s.' % (order.name, 'cancelled' if order.state == 'cancel' else 'not, or not all of it',
                                           '; '.join(short[:5]), more)}


def flag_invoiced(item, order):
    # Odoo cancels drafts with the order, and leaves what is posted.
    names = []
    for invoice in order.invoice_ids:
        if invoice.state == 'posted' and invoice.move_type == 'out_invoice' and invoice.payment_state != 'reversed':
            names.append(invoice.name)
    if names:
        item['flag'] = {'name': 'dragoman.Invoiced', 'message': '%s is cancelled, and has been invoiced: %s stays as it is.'
                        % (order.name, ' and '.join(names))}


def cancel_order(item, order):
    if order.state == 'cancel':
        flag_invoiced(item, order)
        return False
    if delivered_from(order):
        item['flag'] = {'name': 'dragoman.Delivered', 'message': '%s was to be cancelled, and has been delivered from:'
                        ' it is left as it is.' % order.name}
        return False
    if is_locked(order) and 'locked' in order._fields:
        order.action_unlock()
    order.with_context(disable_cancel_warning=True).action_cancel()
    flag_invoiced(item, order)
    return True


def step_one(item, order, step):
    # True if it did anything.
    if step == 'cancel':
        return cancel_order(item, order)
    if step == 'deliver':
        did = order.state in ('sale', 'done') and deliver_order(order, item['partial'])
        flag_undelivered(item, order, item['partial'])
        return did
    if order.state not in ('sale', 'done'):
        return False
    did = False
    for picking in open_pickings(order):
        if step == 'no_delivery':
            picking.action_cancel()
            did = True
        elif picking.state in ('confirmed', 'waiting'):
            for move in moves_of(picking):
                if move.state in ('confirmed', 'waiting', 'partially_available'):
                    move._action_assign()
    return did


def try_step(item, order, step):
    try:
        return step_one(item, order, step), None
    except Exception as error:
        if not is_only_the_items(error):
            raise
        return False, describe(error)


def do_steps(items, ids):
    # Step by step for all of them; orders are confirmed together. Answers whom it did anything for.
    acted = set()
    longest = max([len(item['steps']) for item in items])
    culprits = []
    for at in range(longest):
        to_confirm = []
        rest = []
        for item in items:
            if at < len(item['steps']):
                if item['steps'][at] == 'confirm':
                    to_confirm.append(ids[item['key']])
                else:
                    rest.append(item)
        orders = SUDO['sale.order'].browse(to_confirm)
        waiting = orders.filtered(lambda order: order.state in ('draft', 'sent'))
        if waiting:
            waiting.action_confirm()
            acted.update(waiting.ids)
        for item in rest:
            order = SUDO['sale.order'].browse(ids[item['key']])
            did, failed = try_step(item, order, item['steps'][at])
            if did:
                acted.add(order.id)
            if failed is not None:
                culprits.append((item, failed))
    blame(culprits)
    return acted


def blame(culprits):
    # Ends an attempt: these items are at fault, and by themselves.
    if culprits:
        raise Exception('dragoman.Culprits', culprits)


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


def try_decide(row, item):
    try:
        return decide(row, item), None
    except Exception as error:
        return None, describe(error)


def answer(keys, item, outcome):
    row = keys[(item['model'], item['key'])]
    out = {'key': item['key'], 'model': item['model'], 'outcome': outcome, 'id': row['res_id'] or False}
    children = {}
    for pair in keys:
        if keys[pair]['parent'] == (item['model'], item['key']) and keys[pair]['there']:
            children[pair[1]] = keys[pair]['res_id']
    if children:
        out['children'] = children
    links = {}
    for line in (row['links'] or '').split('\n'):
        pair = tuple(line.split('\t'))
        if pair in keys and keys[pair]['there']:
            links[pair[1]] = {'model': pair[0], 'id': keys[pair]['res_id'], 'how': keys[pair]['how']}
    if links:
        out['links'] = links
    if item.get('flag'):
        out['flag'] = item['flag']
    return out


def apply_wave(keys, changed, items):
    outcomes = {}
    writing = []
    for item in items:
        item['needs'] = []
        item['written'] = None
        item['flag'] = None
        outcome, item['failed'] = try_decide(keys[(item['model'], item['key'])], item)
        outcomes[item['key'], item['model']] = outcome
        item['fresh'] = outcome == 'created'
        if outcome in ('created', 'updated') and item['wanted']:
            writing.append(item)
    if writing:
        plans = plan_links(keys, writing)
        make_links(keys, changed, [item for item in writing if item['failed'] is None], plans)
    items = [item for item in items if item['failed'] is None]
    groups = {}
    updates = []
    for item in items:
        outcome = outcomes[item['key'], item['model']]
        if outcome == 'created':
            company = company_of(item) if 'company_id' in SUDO[item['model']]._fields else env.company.id
            groups.setdefault((item['model'], company), []).append(item)
        elif outcome == 'updated':
            updates.append(item)
    for model, company in groups:
        prepared = []
        for item in groups[(model, company)]:
            prepared.append(with_children(keys, item, True))
        into = SUDO[model]
        if company != env.company.id:
            into = into.with_context(allowed_company_ids=[company])
        records = into.create([one[0] for one in prepared])
        for item, record, one in zip(groups[(model, company)], records, prepared):
            row = keys[(model, item['key'])]
            row['res_id'] = record.id
            row['there'] = True
            row['made'] = True
            row['called'] = ''
            item['written'] = record.id
            name_children(keys, changed, item, record, one[1], {})
            write_apart(keys, changed, item, record, one[2])
    culprits = []
    for item in updates:
        failed = try_update(keys, changed, item)
        if failed is not None:
            # What it adds up to half done is not what is wrong with it.
            item['written'] = None
            culprits.append((item, failed))
    blame(culprits + check_quantities(keys, items) + check_amounts(keys, items))
    calls = {}
    stepping = []
    for item in items:
        outcome = outcomes[item['key'], item['model']]
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
            if item['wanted']:
                row['links'] = '\n'.join(['\t'.join(one) for one in item['needs']])
            changed.add(pair)
        if item['call'] and item['call'] not in row['called'].split(','):
            calls.setdefault((item['model'], item['call']), []).append(row['res_id'])
            row['called'] = (row['called'] + ',' if row['called'] else '') + item['call']
            changed.add(pair)
            if outcome == 'unchanged':
                item['out'] = 'updated'
        if item['steps']:
            stepping.append(item)
    for call in calls:
        CALLS[call[1]](SUDO[call[0]].browse(calls[call]))
    if stepping:
        ids = {}
        for item in stepping:
            ids[item['key']] = keys[(item['model'], item['key'])]['res_id']
        acted = do_steps(stepping, ids)
        for item in stepping:
            if ids[item['key']] in acted and item['out'] == 'unchanged':
                item['out'] = 'updated'
        blame(check_amounts(keys, stepping))


def update(keys, changed, item):
    item['removed'] = []
    record = SUDO[item['model']].browse(keys[(item['model'], item['key'])]['res_id'])
    values, made, apart = with_children(keys, item, False)
    given = values
    before = lists_of(record, item)
    if item['model'] == 'sale.order':
        values, content = only_changes(record, item, values)
        if content:
            item['written'] = record.id
    if values:
        record.write(values)
    if item['written'] and 'pricelist_id' in given and not same(record, 'pricelist_id', given['pricelist_id']):
        # Made anew for another customer.
        record.write({'pricelist_id': given['pricelist_id']})
    name_children(keys, changed, item, record, made, before)
    write_apart(keys, changed, item, record, apart)
    for pair in item['removed']:
        # It may come back, and is none that somebody else deleted.
        keys[pair].update({'res_id': None, 'there': False, 'parent': (None, None)})
        changed.add(pair)
    if item['model'] == 'sale.order' and item['written'] and record.state == 'sale':
        lower_moves(record)


def try_update(keys, changed, item):
    try:
        update(keys, changed, item)
    except Exception as error:
        if not is_only_the_items(error):
            raise
        return describe(error)
    return None


def apply_all(items):
    keys = claim(items)
    changed = set()
    follow_merged(keys, changed, items)
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
        if item['failed'] is None:
            item['answer'] = answer(keys, item, item['out'])
        else:
            refuse(item, item['failed'])


def refuse(item, error):
    item['answer'] = {'key': item['key'], 'model': item['model'], 'outcome': 'error', 'error': error}


def try_all(items):
    # None, or the error after which nothing of it is left.
    env.cr.execute('SAVEPOINT dragoman')
    try:
        apply_all(items)
    except Exception as error:
        if not is_about_the_item(error):
            raise
        forget()
        env.cr.execute('ROLLBACK TO SAVEPOINT dragoman')
        env.cr.execute('RELEASE SAVEPOINT dragoman')
        return error
    env.cr.execute('RELEASE SAVEPOINT dragoman')
    return None


def attempt(items):
    # All of the items but those that are at fault by themselves, or none of them: None, or what is wrong.
    for item in items:
        item['at_fault'] = False
    while items:
        wrong = try_all(items)
        if wrong is None:
            return None
        if len(wrong.args) != 2 or str(wrong.args[0]) != 'dragoman.Culprits':
            return describe(wrong)
        for item, error in wrong.args[1]:
            # Of several errors of one item the first: the others may come of it.
            if not item['at_fault']:
                refuse(item, error)
            item['at_fault'] = True
        left = []
        for item in items:
            if not item['at_fault']:
                left.append(item)
        items = left
    return None


def apply_in_parts(items):
    # The whole, which is cheapest; where something in it is wrong, halves, down to single items.
    wrong = attempt(items) if items else None
    if wrong is None:
        return
    if len(items) == 1:
        refuse(items[0], wrong)
        return
    half = len(items) // 2
    apply_in_parts(items[:half])
    apply_in_parts(items[half:])


def is_pair(model, key):
    try:
        check_key(key)
        return isinstance(model, str) and model in SUDO
    except Exception:
        return False


def name_records(items):
    # Says of what failed which record its key stands for, as it is now that all of it is undone.
    failed = []
    for item in items:
        told = item['answer']
        if told['outcome'] == 'error' and is_pair(told['model'], told['key']):
            failed.append((told, (told['model'], told['key'])))
    if not failed:
        return
    keys = {}
    put_rows(keys, select(sorted(set([one[1] for one in failed])), ''))
    see_which_are_there(keys)
    for told, pair in failed:
        if pair in keys and keys[pair]['there']:
            told['id'] = keys[pair]['res_id']


def import_items(payload):
    env.companies  # refuses companies that are not the caller's
    items = []
    good = []
    names = check_names(payload.get('names') or {})
    for raw in payload['items']:
        item = try_normalise(raw, names)
        items.append(item)
        if 'error' in item:
            refuse(item, item['error'])
        else:
            good.append(item)
    add_digests(good)
    atomic = bool(payload.get('atomic'))
    flush()
    if atomic:
        env.cr.execute('SAVEPOINT dragoman_atomic')
    bad = len(items) - len(good)
    if not (atomic and bad):
        apply_in_parts(in_waves(good))
        for item in good:
            bad += item['answer']['outcome'] == 'error'
    if atomic and bad:
        forget()
        env.cr.execute('ROLLBACK TO SAVEPOINT dragoman_atomic')
        for item in good:
            if item.get('answer', {}).get('outcome') != 'error':
                refuse(item, {'name': 'dragoman.Atomic', 'message': 'Another item of this batch failed, and it is all or'
                              ' none.'})
    if atomic:
        env.cr.execute('RELEASE SAVEPOINT dragoman_atomic')
    name_records(items)
    return [item['answer'] for item in items]


def find(wanted):
    pairs = []
    for one in wanted:
        pairs.append((str(one.get('model')), str(one.get('key'))))
    keys = {}
    put_rows(keys, select(sorted(set(pairs)), ''))
    add_children(keys, sorted(set(pairs)))
    linked = set()
    for pair in keys:
        for line in keys[pair]['links'].split('\n'):
            link = tuple(line.split('\t'))
            if len(link) == 2 and link not in keys:
                linked.add(link)
    if linked:
        put_rows(keys, select(sorted(linked), ''))
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
