# Dragoman procedure: market
# Version: 2
# Summary: tells a marketplace's side of this Odoo: imported orders, what changed of them, stock and prices
#
# Takes from the context {"dragoman": PAYLOAD}, one of:
#   {"watch": {"since": WATERMARK or null, "prefixes": [text…], "products": [id…] or null, "deleted": false}}
#     → {"watermark", "now", "orders": [FACTS…] of orders whose keys begin with a prefix and that changed, by themselves or
#        by a line, a transfer or a move; with `deleted` also of those that were deleted, "products": [id…] whose stock or
#        price may have changed, "all": true where any may have}
#   {"orders": [key…]} → {"orders": [FACTS…]}, in that order
#     FACTS: {"key", "id", "name", "state", "locked", "amount_total", "currency", "lines": [{"id", "key", "product_id",
#             "ordered", "delivered", "storable"}…], "pickings": [{"id", "name", "state", "kind", "done_at"}…],
#             "delivered", "shipped", "write_date"}, or {"key", "id", "deleted": true}, or {"key", "missing": true}
#   {"stock": {"products": [id…], "warehouse": id, "pricelist": id, "company": id}}, all but products may be null
#     → {"products": [{"id", "free", "price", "currency", "digits", "active", "counted"} or {"id", "missing": true}…]}: the
#        price as exact as the list has it, and the places that its currency has; counted: Odoo counts its stock or its parts'
#   {"settings": {}} → {"companies", "warehouses", "pricelists", "salespeople", "carriers"}: lists of {"id", "name", …}
#   {"products": {"after": id, "limit": n, "field": name or null (where there is none such, x_ and the name)}} → {"products": [{"id", "name", "default_code", …}…]}
# and "procedure" and "version" in each. Amounts and quantities are text. Changes nothing. Written as import.py is, for
# the same checkers.
#
# A watermark holds two times. All transactions that began before the second had ended when it was told, so that the next
# call, which begins later, sees what they wrote; the time after that is watched from there. A row is told again and again
# until no transaction of its time is open any more. The third part tells whether a rule of a price list or a part of a
# kit was deleted, of which nothing else tells.

PROCEDURE = 'market'
VERSION = 2


def without_payload():
    context = dict(env.context)
    for name in ('dragoman', 'active_model', 'active_id', 'active_ids'):
        context.pop(name, None)
    return env(context=context, su=True)


SUDO = without_payload()


def amount(number, places):
    return ('%.' + str(places) + 'f') % number


def quantity(number):
    text = '%.6f' % number
    text = text.rstrip('0').rstrip('.')
    return '0' if text == '-0' else text


def moment(value):
    return value.strftime('%Y-%m-%d %H:%M:%S.%f') if value else ''


def is_stored(model, name):
    return model in SUDO and name in SUDO[model]._fields and bool(SUDO[model]._fields[name].store)


def is_storable(product):
    if 'is_storable' in product._fields:
        return product.is_storable
    return product.type == 'product'


# ---------------------------------------------------------------- orders

def line_keys(ids):
    # The keys of lines, by id.
    env.cr.execute("SELECT res_id, key FROM dragoman_key WHERE model = 'sale.order.line' AND res_id = ANY(%s::bigint[])",
                   (ids,))
    keys = {}
    for row in env.cr.fetchall():
        keys[row[0]] = row[1]
    return keys


def facts_of_one(key, order, keys):
    lines = []
    goods = False
    all_delivered = True
    for line in order.order_line:
        if line.display_type:
            continue
        name = keys.get(line.id, '')
        lines.append({'id': line.id, 'key': name[len(key) + 1:] if name.startswith(key + '/') else '',
                      'product_id': line.product_id.id or False, 'ordered': quantity(line.product_uom_qty),
                      'delivered': quantity(line.qty_delivered), 'storable': bool(is_storable(line.product_id))})
        if line.product_id and line.product_id.type != 'service' and line.product_uom_qty > 0:
            goods = True
            all_delivered = all_delivered and line.qty_delivered > line.product_uom_qty - 0.000001
    pickings = []
    shipped = False
    if 'picking_ids' in order._fields:
        for picking in order.picking_ids.sorted('id'):
            kind = picking.picking_type_id.code
            pickings.append({'id': picking.id, 'name': picking.name, 'state': picking.state, 'kind': kind,
                             'done_at': moment(picking.date_done)[:19]})
            shipped = shipped or (kind == 'outgoing' and picking.state == 'done')
    return {'key': key, 'id': order.id, 'name': order.name, 'state': order.state,
            'locked': order.state == 'done' or bool('locked' in order._fields and order.locked),
            'amount_total': amount(order.amount_total, order.currency_id.decimal_places),
            'currency': order.currency_id.name, 'lines': lines, 'pickings': pickings,
            'delivered': goods and all_delivered, 'shipped': shipped, 'write_date': moment(order.write_date)}


def facts(rows):
    # Of (key, id); id None: nothing was imported under the key.
    ids = []
    for row in rows:
        if row[1]:
            ids.append(row[1])
    orders = SUDO['sale.order'].browse(ids).exists()
    by_id = {}
    for order in orders:
        by_id[order.id] = order
    keys = line_keys(orders.order_line.ids)
    out = []
    for key, res_id in rows:
        if not res_id:
            out.append({'key': key, 'missing': True})
        elif res_id not in by_id:
            out.append({'key': key, 'id': res_id, 'deleted': True})
        else:
            out.append(facts_of_one(key, by_id[res_id], keys))
    return out


def orders_of(wanted):
    env.cr.execute("SELECT key, res_id FROM dragoman_key WHERE model = 'sale.order' AND key = ANY(%s::text[])",
                   (list(wanted),))
    known = dict(env.cr.fetchall())
    rows = []
    for key in wanted:
        rows.append((key, known.get(key)))
    return facts(rows)


# ---------------------------------------------------------------- what changed

def beginnings(prefixes):
    # For LIKE.
    out = []
    for prefix in prefixes:
        out.append(prefix.replace('\\', '\\\\').replace('%', '\\%').replace('_', '\\_') + '%')
    return out


def changed_orders(since, prefixes):
    parts = ['SELECT id FROM sale_order WHERE write_date >= %s',
             'SELECT order_id FROM sale_order_line WHERE write_date >= %s']
    if is_stored('stock.move', 'sale_line_id'):
        parts.append('SELECT l.order_id FROM stock_move m JOIN sale_order_line l ON l.id = m.sale_line_id'
                     ' WHERE m.write_date >= %s')
    if is_stored('stock.picking', 'sale_id'):
        parts.append('SELECT sale_id FROM stock_picking WHERE write_date >= %s')
    env.cr.execute('SELECT k.key, k.res_id FROM (' + ' UNION '.join(parts) + ") AS c(id) JOIN dragoman_key k ON k.model ="
                   " 'sale.order' AND k.res_id = c.id WHERE k.key LIKE ANY(%s::text[]) ORDER BY k.res_id",
                   tuple([since] * len(parts)) + (beginnings(prefixes),))
    return env.cr.fetchall()


def deleted_orders(prefixes):
    env.cr.execute("SELECT k.key, k.res_id FROM dragoman_key k LEFT JOIN sale_order o ON o.id = k.res_id WHERE k.model ="
                   " 'sale.order' AND k.res_id IS NOT NULL AND o.id IS NULL AND k.key LIKE ANY(%s::text[])"
                   ' ORDER BY k.res_id', (beginnings(prefixes),))
    return env.cr.fetchall()


def ids_of(sql, values):
    env.cr.execute(sql, values)
    out = set()
    for row in env.cr.fetchall():
        if row[0]:
            out.add(row[0])
    return out


def kits_with(products):
    # What is sold as a kit has the stock of its parts.
    found = set(products)
    if 'mrp.bom.line' not in SUDO:
        return found
    fresh = set(products)
    for depth in range(8):
        if not fresh:
            break
        made = ids_of("SELECT p.id FROM mrp_bom_line l JOIN mrp_bom b ON b.id = l.bom_id JOIN product_product p ON"
                      " p.product_tmpl_id = b.product_tmpl_id AND (b.product_id IS NULL OR b.product_id = p.id) WHERE"
                      " b.active AND b.type = 'phantom' AND l.product_id = ANY(%s::int[])", (list(fresh),))
        fresh = made - found
        found.update(made)
    return found


def changed_kits(since):
    # What is sold as a kit by a bill of materials that changed, or was until then: another type, archived. A line that is
    # taken out in the bill's form changes the bill; one that is deleted by itself, `rules_of_lists` tells of.
    if 'mrp.bom.line' not in SUDO:
        return set()
    return kits_with(ids_of("SELECT p.id FROM mrp_bom b JOIN product_product p ON p.product_tmpl_id = b.product_tmpl_id AND"
                            " (b.product_id IS NULL OR b.product_id = p.id) WHERE b.write_date >= %s OR (b.type = 'phantom' AND"
                            ' EXISTS (SELECT FROM mrp_bom_line l WHERE l.bom_id = b.id AND l.write_date >= %s))', (since, since)))


def rules_of_lists():
    env.cr.execute("SELECT count(*)::text || ':' || coalesce(sum(id), 0)::text FROM product_pricelist_item")
    out = env.cr.fetchone()[0]
    if 'mrp.bom.line' in SUDO:
        env.cr.execute("SELECT '/' || count(*)::text || ':' || (coalesce(sum(b.id), 0) + coalesce(sum(l.id), 0))::text FROM"
                       " mrp_bom b LEFT JOIN mrp_bom_line l ON l.bom_id = b.id WHERE b.type = 'phantom'")
        out += env.cr.fetchone()[0]
    return out


def changed_products(since, wanted, rules_then, rules_now):
    # (ids, whether any stock or price may have changed)
    ids = ids_of('SELECT id FROM product_product WHERE write_date >= %s', (since,))
    ids.update(ids_of('SELECT p.id FROM product_template t JOIN product_product p ON p.product_tmpl_id = t.id WHERE'
                      ' t.write_date >= %s', (since,)))
    if 'stock.quant' in SUDO:
        # A quantity that came to nothing is deleted, and those of one place are merged, with nothing left to tell of it: the
        # move that made it so is.
        ids.update(kits_with(ids_of('SELECT product_id FROM stock_quant WHERE write_date >= %s UNION SELECT product_id FROM'
                                    ' stock_move WHERE write_date >= %s', (since, since))))
    ids.update(changed_kits(since))
    if is_stored('product.template.attribute.value', 'price_extra'):
        ids.update(ids_of('SELECT p.id FROM product_template_attribute_value v JOIN product_product p ON p.product_tmpl_id ='
                          ' v.product_tmpl_id WHERE v.write_date >= %s', (since,)))
    if 'ir.property' in SUDO:
        # Costs, before 18.
        ids.update(ids_of("SELECT split_part(res_id, ',', 2)::int FROM ir_property WHERE name = 'standard_price' AND"
                          " write_date >= %s AND res_id LIKE 'product.product,%%'", (since,)))
    everything = rules_then != rules_now
    everything = everything or bool(ids_of('SELECT id FROM product_pricelist WHERE write_date >= %s', (since,)))
    env.cr.execute('SELECT applied_on, product_id, product_tmpl_id, categ_id FROM product_pricelist_item WHERE'
                   " write_date >= %s OR (date_start >= %s AND date_start <= now() AT TIME ZONE 'UTC')"
                   " OR (date_end >= %s AND date_end <= now() AT TIME ZONE 'UTC')", (since, since, since))
    categories = []
    templates = []
    for applied, product, template, category in env.cr.fetchall():
        if applied == '0_product_variant':
            ids.add(product)
        elif applied == '1_product':
            templates.append(template)
        elif applied == '2_product_category':
            categories.append(category)
        else:
            everything = True
    if templates:
        ids.update(ids_of('SELECT id FROM product_product WHERE product_tmpl_id = ANY(%s::int[])', (templates,)))
    if categories and not everything:
        ids.update(SUDO['product.product'].with_context(active_test=False).search(
            [('categ_id', 'child_of', categories)]).ids)
    if wanted is not None:
        ids = set(wanted) if everything else ids & set(wanted)
    return sorted(ids), everything


def watch(wanted):
    # The margin is for what began and is not in the list yet, and for times that were cut to whole seconds.
    env.cr.execute("SELECT to_char((least(min(xact_start), now()) - interval '2 seconds') AT TIME ZONE 'UTC',"
                   " 'YYYY-MM-DD HH24:MI:SS.US'), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
                   " FROM pg_stat_activity WHERE datname = current_database() AND (backend_type IS NULL OR backend_type"
                   " = 'client backend')")
    oldest, now = env.cr.fetchone()
    rules = rules_of_lists()
    prefixes = wanted.get('prefixes') or []
    parts = (wanted.get('since') or '').split('|')
    out = {'now': now, 'orders': [], 'products': [], 'all': False}
    rows = []
    if len(parts) == 3:
        rows = changed_orders(parts[0], prefixes)
        out['products'], out['all'] = changed_products(parts[0], wanted.get('products'), parts[2], rules)
        out['watermark'] = '|'.join([max(parts[0], parts[1]), max(parts[1], oldest), rules])
    else:
        out['watermark'] = '|'.join([oldest, oldest, rules])
    if wanted.get('deleted'):
        rows = rows + deleted_orders(prefixes)
    out['orders'] = facts(rows)
    return out


# ---------------------------------------------------------------- stock and prices

def prices_of(products, pricelist):
    if not pricelist:
        out = {}
        for product in products:
            out[product.id] = product.lst_price
        return out
    if can_bulk(pricelist):
        return pricelist._get_products_price(products, 1.0)
    return pricelist.get_products_price(products, [1.0] * len(products), [False] * len(products))


def can_bulk(pricelist):
    try:
        pricelist._get_products_price
        return True
    except Exception:
        return False


def kits_of(products):
    # Those that are sold as a kit.
    if 'mrp.bom' not in SUDO or not products:
        return set()
    return ids_of("SELECT p.id FROM mrp_bom b JOIN product_product p ON p.product_tmpl_id = b.product_tmpl_id AND"
                  " (b.product_id IS NULL OR b.product_id = p.id) WHERE b.active AND b.type = 'phantom' AND p.id ="
                  ' ANY(%s::int[])', (products.ids,))


def stock(wanted):
    model = SUDO['product.product']
    company = SUDO['res.company'].browse(wanted.get('company') or env.company.id)
    context = dict(SUDO.context)
    context['allowed_company_ids'] = company.ids
    if wanted.get('warehouse'):
        context['warehouse'] = wanted['warehouse']
        context['warehouse_id'] = wanted['warehouse']
    model = model.with_context(context)
    products = model.browse(wanted.get('products') or []).exists()
    pricelist = False
    if wanted.get('pricelist'):
        pricelist = SUDO['product.pricelist'].with_context(allowed_company_ids=company.ids).browse(wanted['pricelist'])
        if not pricelist.exists():
            raise UserError('There is no price list %s any more.' % wanted['pricelist'])
    currency = pricelist.currency_id if pricelist else company.currency_id
    prices = prices_of(products, pricelist)
    kits = kits_of(products)
    known = set(products.ids)
    out = []
    for one in wanted.get('products') or []:
        if one not in known:
            out.append({'id': one, 'missing': True})
            continue
        product = model.browse(one)
        free = product.free_qty if 'free_qty' in product._fields else 0.0
        out.append({'id': one, 'free': quantity(free), 'price': quantity(prices.get(one, 0.0)),
                    'currency': currency.name, 'digits': currency.decimal_places,
                    'active': bool(product.active and product.sale_ok),
                    'counted': bool(is_storable(product)) or one in kits})
    return {'products': out}


# ---------------------------------------------------------------- for setting up

def named(model, domain, more):
    out = []
    if model not in SUDO:
        return out
    for record in SUDO[model].search(domain, order='id'):
        one = {'id': record.id, 'name': record.display_name}
        if 'company_id' in record._fields:
            one['company_id'] = record.company_id.id or False
        if more and more in record._fields:
            one['currency'] = record[more].name
        out.append(one)
    return out


def settings():
    companies = env.user.sudo().company_ids.ids
    either = [('company_id', 'in', [False] + companies)]
    return {'companies': named('res.company', [('id', 'in', companies)], 'currency_id'),
            'warehouses': named('stock.warehouse', [('company_id', 'in', companies)], ''),
            'pricelists': named('product.pricelist', either, 'currency_id'),
            'salespeople': named('res.users', [('share', '=', False), ('company_ids', 'in', companies)], ''),
            'carriers': named('delivery.carrier', either, '')}


def products_after(wanted):
    model = SUDO['product.product'].with_context(active_test=False)
    limit = min(max(wanted.get('limit') or 100, 1), 1000)
    field = wanted.get('field') or ''
    if field and field not in model._fields:
        field = 'x_' + field
    out = []
    for product in model.search([('id', '>', wanted.get('after') or 0)], order='id', limit=limit):
        out.append({'id': product.id, 'name': product.display_name, 'default_code': product.default_code or '',
                    'barcode': product.barcode or '', 'unit': product.uom_id.name, 'active': bool(product.active),
                    'storable': bool(is_storable(product)),
                    'market_id': (product[field] or '') if field in product._fields else ''})
    return {'products': out}


def main(payload):
    if not isinstance(payload, dict):
        raise UserError('The context has no `dragoman` object.')
    env.companies  # refuses companies that are not the caller's
    out = {}
    if 'watch' in payload:
        out = watch(payload['watch'])
    elif 'orders' in payload:
        out = {'orders': orders_of(payload['orders'])}
    elif 'stock' in payload:
        out = stock(payload['stock'])
    elif 'settings' in payload:
        out = settings()
    elif 'products' in payload:
        out = products_after(payload['products'])
    out['procedure'] = PROCEDURE
    out['version'] = VERSION
    return out


action = main(env.context.get('dragoman'))
