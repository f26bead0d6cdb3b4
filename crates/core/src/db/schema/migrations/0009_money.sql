-- Money: an amount is a whole number of the minor units of its currency. The field `credit` of a record is the two columns
-- `credit_minor bigint` and `credit_currency text`; the constructors of tables check that both or neither are there.

-- How many decimal places a currency has: the active codes of ISO 4217, "List one" of its maintenance agency as published
-- on 2026-01-01, but for those that nobody pays in (metals, units of account, XTS, XXX). NULL for any other text. The same
-- as `Currency` in `crates/core/src/shared/currency.rs`. Later migrations may add codes, and never take one away.
create function app.currency_exponent(currency text) returns int
language sql immutable strict parallel safe as $$
  select case
    when $1 in (
      'AED', 'AFN', 'ALL', 'AMD', 'AOA', 'ARS', 'AUD', 'AWG', 'AZN', 'BAM', 'BBD', 'BDT', 'BMD', 'BND', 'BOB', 'BOV',
      'BRL', 'BSD', 'BTN', 'BWP', 'BYN', 'BZD', 'CAD', 'CDF', 'CHE', 'CHF', 'CHW', 'CNY', 'COP', 'COU', 'CRC', 'CUP',
      'CVE', 'CZK', 'DKK', 'DOP', 'DZD', 'EGP', 'ERN', 'ETB', 'EUR', 'FJD', 'FKP', 'GBP', 'GEL', 'GHS', 'GIP', 'GMD',
      'GTQ', 'GYD', 'HKD', 'HNL', 'HTG', 'HUF', 'IDR', 'ILS', 'INR', 'IRR', 'JMD', 'KES', 'KGS', 'KHR', 'KPW', 'KYD',
      'KZT', 'LAK', 'LBP', 'LKR', 'LRD', 'LSL', 'MAD', 'MDL', 'MGA', 'MKD', 'MMK', 'MNT', 'MOP', 'MRU', 'MUR', 'MVR',
      'MWK', 'MXN', 'MXV', 'MYR', 'MZN', 'NAD', 'NGN', 'NIO', 'NOK', 'NPR', 'NZD', 'PAB', 'PEN', 'PGK', 'PHP', 'PKR',
      'PLN', 'QAR', 'RON', 'RSD', 'RUB', 'SAR', 'SBD', 'SCR', 'SDG', 'SEK', 'SGD', 'SHP', 'SLE', 'SOS', 'SRD', 'SSP',
      'STN', 'SVC', 'SYP', 'SZL', 'THB', 'TJS', 'TMT', 'TOP', 'TRY', 'TTD', 'TWD', 'TZS', 'UAH', 'USD', 'USN', 'UYU',
      'UZS', 'VED', 'VES', 'WST', 'XAD', 'XCD', 'XCG', 'YER', 'ZAR', 'ZMW', 'ZWG') then 2
    when $1 in (
      'BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF',
      'XPF') then 0
    when $1 in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 3
    when $1 in ('CLF', 'UYW') then 4
  end
$$;

-- Gives each pair of columns `x_minor` and `x_currency` the check that it is money: both parts or none, a currency that
-- there is, and 18 digits at most. A pair that has its check already is left alone.
create function app.bound_money(relation regclass) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  pair record;
begin
  for pair in
    select left(m.attname::text, -6) as field, m.attname as minor, c.attname as currency,
      m.atttypid = 'bigint'::regtype and c.atttypid = 'text'::regtype as fits
    from pg_catalog.pg_attribute m
    join pg_catalog.pg_attribute c on c.attrelid = m.attrelid and c.attnum > 0 and not c.attisdropped
      and c.attname = left(m.attname::text, -6) || '_currency'
    where m.attrelid = relation and m.attnum > 0 and not m.attisdropped and right(m.attname::text, 6) = '_minor'
      and not exists (select from pg_catalog.pg_constraint k
        where k.conrelid = relation and k.conname = left(left(m.attname::text, -6), 57) || '_money')
    order by m.attnum
  loop
    if not pair.fits then
      raise exception '%: % and % are not of the types of money', name, pair.minor, pair.currency
        using hint = format('Write "%s bigint" and "%s text".', pair.minor, pair.currency);
    end if;
    execute format('alter table %1$s add constraint %2$I check ((%3$I is null) = (%4$I is null) and (%3$I is null
        or %3$I between -999999999999999999 and 999999999999999999 and app.currency_exponent(%4$I) is not null))',
      name, left(pair.field, 57) || '_money', pair.minor, pair.currency);
  end loop;
end $$;

-- Refuses columns that cannot hold a decimal exactly: floats, arrays and domains of them, and PostgreSQL's own `money`,
-- whose decimal places follow from the locale of the server.
create function app.refuse_inexact(relation regclass) returns void
language plpgsql as $$
declare
  col text;
  kind text;
begin
  with recursive base (attname, attnum, declared, typid) as (
    select a.attname, a.attnum, a.atttypid, a.atttypid from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    union
    select b.attname, b.attnum, b.declared, case when t.typtype = 'd' then t.typbasetype else t.typelem end
    from base b join pg_catalog.pg_type t on t.oid = b.typid
    where t.typtype = 'd' or (t.typelem <> 0 and t.typlen = -1)
  )
  select b.attname, format_type(b.declared, null) into col, kind from base b
  where b.typid in ('real'::regtype, 'double precision'::regtype, 'money'::regtype) order by b.attnum limit 1;
  if col is not null then
    raise exception '%: the column % is of the type %, which does not hold decimals exactly', app.qualified(relation), col, kind
      using hint = format('Money is "%1$s_minor bigint" and "%1$s_currency text"; another decimal is "%1$s numeric".', col);
  end if;
end $$;

-- What holds of the columns of every table. The runner calls it after each migration, for columns that come later.
create function app.column_rules(relation regclass) returns void
language plpgsql as $$
begin
  perform app.refuse_inexact(relation);
  perform app.bound_times(relation);
  perform app.bound_money(relation);
end $$;

-- The same with all of these rules: all three constructors come through here.
create or replace function app.register(relation regclass, kind text, privileges text[], why text) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  runtime text := current_setting('app.runtime_role');
begin
  execute format('revoke all on %s from public, %I', name, runtime);
  execute format('grant %s on %s to %I', array_to_string(privileges, ', '), name, runtime);
  insert into app.relations (relation, kind, privileges, why) values (name, kind, privileges, why);
  perform app.column_rules(relation);
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.currency_exponent(text), app.bound_money(regclass), app.refuse_inexact(regclass),
  app.column_rules(regclass) from public;

do $$
begin
  execute format('grant execute on function app.currency_exponent(text) to %I', current_setting('app.runtime_role'));
end $$;
