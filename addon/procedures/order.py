# Dragoman procedure: order
# Version: 1
# Summary: makes one new order of a marketplace and confirms it, where nothing about it is out of the ordinary
#
# Odoo reads and checks the text of a server action at each call, which for `import` takes longer than a small order
# itself. This does with the ordinary case of it, and nothing else, what `import` does, in a fifth of the text: one new
# sale.order with its lines, customer and products known or found by a rule, or the customer made. Takes what `import`
# takes, {"dragoman": {"items": [ITEM], "names": NAMES}}, and answers the same; or, where anything is otherwise (the key is
# known, two records fit, the total is another one, Odoo refuses it, …), {"procedure", "version", "items": false}: nothing
# was done then, and the caller asks `import`, which says what is wrong. Written as that is, for the same checkers.

PROCEDURE = 'order'
VERSION = 1
OTHER_NAMES = {'tax_ids': 'tax_id', 'tax_id': 'tax_ids', 'product_uom_id': 'product_uom', 'product_uom': 'product_uom_id'}


def without_payload():
    context = dict(env.context)
    for name in ('dragoman', 'active_model', 'active_id', 'active_ids'):
        context.pop(name, None)
    return env(context=context, su=True)


SUDO = without_payload()


def new_cursor():
    try:
        env.cr.clear
        return True
    except Exception:
        return False


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


def ordinary(yes):
    if not yes:
        raise Exception('dragoman.Unusual')


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


def field_name(names, model, name):
    optional = name.endswith('?')
    if optional:
        name = name[:-1]
    fields = SUDO[model]._fields
    if name not in fields:
        other = OTHER_NAMES.get(name, name) if model == 'sale.order.line' else name
        name = names.get(model, {}).get(name, other)
    return None if optional and name not in fields else name


def convert(names, model, values, links):
    # The values as Odoo takes them. A reference is left as its pair of model and key, and noted in `links`.
    fields = SUDO[model]._fields
    out = {}
    for given in values:
        value = values[given]
        name = field_name(names, model, given)
        if name is None:
            continue
        ordinary(name in fields)
        kind = fields[name].type
        if isinstance(value, dict):
            ordinary(links is not None and kind == 'many2one' and isinstance(value.get('key'), str))
            pair = (value.get('model') or fields[name].comodel_name, value['key'])
            ordinary(value.get('match') and pair[0] in ('res.partner', 'product.product', 'delivery.carrier'))
            ordinary('\n' not in pair[1] and '\t' not in pair[1] and '\x00' not in pair[1] and len(pair[1]) < 125)
            links.setdefault(pair, value)
            value = pair
        elif isinstance(value, list):
            ordinary(kind == 'many2many' and not value)
            value = [(6, 0, [])]
        elif isinstance(value, str) and kind in ('float', 'monetary'):
            value = float(value)
        out[name] = value
    if model == 'sale.order.line' and 'technical_price_unit' in fields and 'price_unit' in out:
        # Given by hand, so that it stays when somebody changes the quantity; see `import`.
        out['technical_price_unit'] = 1.0 if (out['price_unit'] or 0.0) < 0.0 else -1.0
    return out


def domain_of(names, model, domain):
    out = []
    for leaf in domain:
        ordinary(isinstance(leaf, list) and len(leaf) == 3 and '.' not in leaf[0])
        name = leaf[0]
        if name in names.get(model, {}) and not name.endswith('?'):
            name += '?'
        name = field_name(names, model, name)
        out.append((0, '=', 1) if name is None else (name, leaf[1], leaf[2]))
    return out


def look_for(pair, wanted, company, names):
    # The id and the rule, or None and `created`.
    model = SUDO[pair[0]].with_context(allowed_company_ids=[company])
    tail = [('company_id', 'in', [False, company])] if 'company_id' in model._fields else []
    own = bool(wanted.get('own'))
    for rule in wanted['match']:
        ids = model.search(domain_of(names, pair[0], rule[1]) + tail, limit=20 if own else 2, order='id').ids
        if own and ids:
            env.cr.execute('SELECT res_id FROM dragoman_key WHERE model = %s AND res_id = ANY(%s::bigint[]) AND key <> %s',
                           (pair[0], ids, pair[1]))
            for row in env.cr.fetchall():
                if row[0] in ids:
                    ids.remove(row[0])
        ordinary(len(ids) < 2)
        if ids:
            if own:
                insert([('own ' + pair[0], str(ids[0]))])
            return ids[0], rule[0]
    ordinary(wanted.get('values'))
    values = convert(names, pair[0], wanted['values'], None)
    return model.create([values]).id, 'created'


def insert(pairs):
    env.cr.execute('INSERT INTO dragoman_key (model, key) SELECT m, n FROM unnest(%s::text[], %s::text[]) AS w(m, n)'
                   ' ON CONFLICT (model, key) DO NOTHING',
                   ([pair[0] for pair in pairs], [pair[1] for pair in pairs]), log_exceptions=False)


def check_amounts(item, order):
    currency = order.currency_id
    ordinary(item.get('currency') in (None, '', currency.name))
    expect = item.get('expect') or {}
    for name in expect:
        ordinary(name in ('amount_total', 'amount_untaxed', 'amount_tax'))
        ordinary(currency.compare_amounts(float(expect[name]), order[name]) == 0)


def make(item, names):
    key = item['key']
    children = (item.get('children') or {}).get('order_line')
    version = item.get('version')
    steps = item.get('steps') or []
    ordinary(item.get('model') == 'sale.order' and isinstance(key, str) and 0 < len(key) < 125 and '\x00' not in key)
    ordinary(children and len(item['children']) == 1 and item.get('replace') in (None, [], ['order_line']))
    ordinary(not item.get('call') and not item.get('digest') and not item.get('names') and steps in ([], ['confirm']))
    ordinary(isinstance(version, int) and not isinstance(version, bool))
    links = {}
    values = convert(names, 'sale.order', item['values'], links)
    lines = []
    own = [('sale.order', key)]
    for child in children:
        ordinary(isinstance(child.get('key'), str) and 0 < len(child['key']) < 125 and '\x00' not in child['key'])
        line = convert(names, 'sale.order.line', child.get('values') or {}, links)
        ordinary(line.get('product_uom_qty', 0) >= 0)
        lines.append(line)
        own.append(('sale.order.line', child['key']))
    ordinary(len(set(own)) == len(own))
    company = values.get('company_id') or env.company.id
    # New keys become rows before anything else is done: of two callers the later waits here, and is run again.
    asked = own + sorted(links)
    env.cr.execute('SELECT k.model, k.key, k.res_id FROM dragoman_key k JOIN unnest(%s::text[], %s::text[]) AS w(m, n)'
                   ' ON k.model = w.m AND k.key = w.n', ([pair[0] for pair in asked], [pair[1] for pair in asked]))
    ids = {}
    known = {}
    for row in env.cr.fetchall():
        ids[(row[0], row[1])] = row[2]
        ordinary(row[2] and (row[0], row[1]) in links)
        known.setdefault(row[0], set()).add(row[2])
    for model in known:
        ordinary(len(SUDO[model].browse(known[model]).exists()) == len(known[model]))
    for pair in ids:
        if links[pair].get('active') and 'active' in SUDO[pair[0]]._fields:
            ordinary(SUDO[pair[0]].browse(ids[pair]).active)
    how = {}
    fresh = []
    for pair in sorted(asked):
        how[pair] = 'key'
        if pair not in ids:
            fresh.append(pair)
    insert(fresh)
    for pair in links:
        if pair not in ids:
            ids[pair], how[pair] = look_for(pair, links[pair], company, names)
    for one in [values] + lines:
        for name in one:
            if isinstance(one[name], tuple):
                one[name] = ids[one[name]]
    values['order_line'] = [(0, 0, line) for line in lines]
    into = SUDO['sale.order']
    if company != env.company.id:
        into = into.with_context(allowed_company_ids=[company])
    order = into.create([values])
    made = sorted(order.with_context(active_test=False).order_line.ids)
    ordinary(len(made) == len(lines))
    ids[own[0]] = order.id
    for pair, one in zip(own[1:], made):
        ids[pair] = one
    for line, one in zip(lines, SUDO['sale.order.line'].browse(made)):
        # Odoo rounds it to its digits without a word.
        given = line.get('product_uom_qty') or 0.0
        ordinary('product_uom_qty' not in line or abs(given - one.product_uom_qty) <= 0.000001 * abs(given))
    check_amounts(item, order)
    if steps:
        order.action_confirm()
        check_amounts(item, order)
    keep(item, own, fresh, ids, '\n'.join(['\t'.join(pair) for pair in links]))
    flush()
    out = {'key': key, 'model': 'sale.order', 'outcome': 'created', 'id': order.id, 'children': {}, 'links': {}}
    for pair in own[1:]:
        out['children'][pair[1]] = ids[pair]
    for pair in links:
        out['links'][pair[1]] = {'model': pair[0], 'id': ids[pair], 'how': how[pair]}
    return out


def keep(item, own, fresh, ids, links):
    # As `import` keeps them, so that it finds what was done here.
    columns = ([], [], [], [], [], [], [], [])
    names = []
    for pair in fresh:
        first = pair == own[0]
        child = pair in own and not first
        row = (pair[0], pair[1], ids[pair], item['version'] if first else None, first, own[0][0] if child else None,
               own[0][1] if child else None, links if first else '')
        for column, value in zip(columns, row):
            column.append(value)
        names.append(pair[0] + '/' + pair[1].replace('%', '%25').replace(' ', '%20'))
    env.cr.execute(
        'UPDATE dragoman_key k SET res_id = u.r, version = u.v, digest = CASE WHEN u.f THEN md5(%s) END, parent_model = u.pm,'
        " parent_key = u.pn, links = u.l, applied = now() AT TIME ZONE 'UTC' FROM unnest(%s::text[], %s::text[],"
        ' %s::bigint[], %s::bigint[], %s::boolean[], %s::text[], %s::text[], %s::text[]) AS u(m, n, r, v, f, pm, pn, l)'
        ' WHERE k.model = u.m AND k.key = u.n', (canonical([item['values'], item['children']]),) + columns)
    env.cr.execute(
        'INSERT INTO ir_model_data (module, name, model, res_id, noupdate, create_uid, create_date, write_uid,'
        " write_date) SELECT '__dragoman__', n, m, r, false, %s, now() AT TIME ZONE 'UTC', %s,"
        " now() AT TIME ZONE 'UTC' FROM unnest(%s::text[], %s::text[], %s::int[]) AS u(n, m, r)"
        ' ON CONFLICT (module, name) DO UPDATE SET model = excluded.model, res_id = excluded.res_id,'
        ' write_uid = excluded.write_uid, write_date = excluded.write_date',
        (env.uid, env.uid, names, columns[0], columns[2]), log_exceptions=False)


def is_about_the_item(error):
    try:
        return (error.pgcode or '')[:2] in ('22', '23', 'P0')
    except Exception:
        return True


def try_make(item, names):
    # The answer, or None: nothing was done. What is wrong with the connection or meets another caller goes to Odoo.
    flush()
    env.cr.execute('SAVEPOINT dragoman_order')
    try:
        out = make(item, names)
    except Exception as error:
        if not is_about_the_item(error):
            raise
        forget()
        env.cr.execute('ROLLBACK TO SAVEPOINT dragoman_order')
        env.cr.execute('RELEASE SAVEPOINT dragoman_order')
        return None
    env.cr.execute('RELEASE SAVEPOINT dragoman_order')
    return out


def main(payload):
    env.companies  # refuses companies that are not the caller's
    out = {'procedure': PROCEDURE, 'version': VERSION, 'items': False}
    if isinstance(payload, dict) and isinstance(payload.get('items'), list) and len(payload['items']) == 1 \
            and not payload.get('atomic') and isinstance(payload.get('names') or {}, dict):
        made = try_make(payload['items'][0], payload.get('names') or {})
        if made is not None:
            out['items'] = [made]
    return out


action = main(env.context.get('dragoman'))
