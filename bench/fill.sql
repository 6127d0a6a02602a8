-- :partners partners with values as a trading company has them: one company in four, the rest its contacts. All invented, and
-- the same on every machine but for the ids. Run in one transaction.
CREATE TEMPORARY TABLE word (list text, n int, value text) ON COMMIT DROP;
INSERT INTO word SELECT l.list, w.n - 1, w.value FROM (VALUES
  ('first', 'Amira,Bassem,Carla,Dina,Emil,Farida,Georges,Hala,Ilias,Jana,Karim,Lina,Mourad,Nadia,Omar,Petra,Qasim,Rania,Samir,Tala'),
  ('last', 'Abadi,Bekker,Castel,Daher,Erkan,Fahmy,Galanis,Haddad,Ionescu,Jaber,Kassab,Lambert,Mansour,Nasser,Othman,Petrou,Rizk,Saleh,Tawfik,Zaki'),
  ('firm', 'Cedar,Harbour,Delta,Oasis,Falcon,Meridian,Levant,Corniche,Jasmine,Saffron,Amber,Coral,Olive,Anchor,Lotus,Pearl'),
  ('trade', 'Trading,Foods,Pharmacy,Textiles,Electronics,Hardware,Stationery,Cosmetics,Furniture,Wholesale,Imports,Logistics'),
  ('street', 'Al Nasr Street,Port Said Road,Market Lane,Garden Avenue,Corniche Road,Station Street,Mill Road,Palm Walk'),
  ('city', 'Alexandria,Smyrna,Haifa,Beirut,Larnaca,Thessaloniki,Jaffa,Tripoli,Latakia,Mersin,Rhodes,Port Said'),
  ('role', 'Buyer,Head of purchasing,Accountant,Store keeper,Owner,Pharmacist,Assistant,Driver')) l (list, words),
  LATERAL unnest(string_to_array(l.words, ',')) WITH ORDINALITY w (value, n);
CREATE FUNCTION pg_temp.pick(wanted text, seed bigint) RETURNS text LANGUAGE sql AS
  'SELECT value FROM word WHERE list = wanted AND n = seed % (SELECT count(*) FROM word WHERE list = wanted)';

CREATE TEMPORARY TABLE made ON COMMIT DROP AS
SELECT i, base.id + i AS id, base.id + (i - (i - 1) % 4) AS firm_id, (i - 1) % 4 = 0 AS is_firm,
       pg_temp.pick('firm', (i - 1) / 4) || ' ' || pg_temp.pick('trade', (i - 1) / 28) || ' ' || (1000 + (i - 1) / 4) AS firm,
       pg_temp.pick('first', i * 7 + i / 20) || ' ' || pg_temp.pick('last', i * 11 + i / 13) AS person
FROM generate_series(1::bigint, :partners) i, (SELECT max(id) AS id FROM res_partner) base;

INSERT INTO res_partner (id, company_id, create_date, name, parent_id, user_id, state_id, country_id, industry_id, color,
  commercial_partner_id, create_uid, write_uid, complete_name, ref, lang, tz, vat, function, type, street, street2, zip, city,
  email, phone, commercial_company_name, comment, active, is_company, partner_share, write_date, email_normalized,
  customer_rank, supplier_rank, autopost_bills, message_bounce)
SELECT made.id, CASE WHEN i % 3 = 0 THEN 1 END, moment - interval '30 days', CASE WHEN is_firm THEN firm ELSE person END,
  CASE WHEN NOT is_firm THEN firm_id END, CASE WHEN i % 2 = 0 THEN 2 END,
  (SELECT min(s.id) + i % 40 FROM res_country_state s WHERE s.country_id = us.id), us.id,
  CASE WHEN is_firm THEN (SELECT min(id) + i % 8 FROM res_partner_industry) END, i % 12, firm_id, 2, 2,
  CASE WHEN is_firm THEN firm ELSE firm || ', ' || person END, 'C' || lpad(i::text, 7, '0'), 'en_US', 'Africa/Cairo',
  CASE WHEN is_firm THEN 'EG' || lpad((i * 7919 % 1000000000)::text, 9, '0') END,
  CASE WHEN NOT is_firm THEN pg_temp.pick('role', i) END, 'contact', (i % 240 + 1) || ' ' || pg_temp.pick('street', i),
  CASE WHEN i % 5 = 0 THEN 'Floor ' || (i % 9 + 1) END, lpad((i * 37 % 100000)::text, 5, '0'), pg_temp.pick('city', i / 3),
  'contact' || i || '@shop' || (i - 1) / 4 || '.example', '+20 10 ' || lpad((i * 104729 % 100000000)::text, 8, '0'), firm,
  CASE WHEN i % 4 = 2 THEN '<p>Prefers deliveries in the morning; asks for an invoice with every box (' || i || ').</p>' END,
  i % 50 <> 0, is_firm, true, moment, 'contact' || i || '@shop' || (i - 1) / 4 || '.example', 1, 0, 'ask', 0
FROM made, (SELECT id FROM res_country WHERE code = 'US') us,
  LATERAL (SELECT timestamp '2026-01-05 08:00:00' + i * interval '3 minutes 7 seconds 1234 microseconds' AS moment) m
ORDER BY i;
SELECT setval('res_partner_id_seq', (SELECT max(id) FROM res_partner));
