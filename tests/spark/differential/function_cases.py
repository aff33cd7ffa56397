"""Cases of scalar functions at their edges: one group a kind of function, in the form that `cases.py` describes."""

EXPRESSIONS = {
    "random": r"""
rand: rand(42) ;; rand(0) ;; random(0) ;; rand(-1) ;; rand(NULL) ;; rand(1 + 1) ;; rand(3000000000)
randn: randn(42) ;; randn(0) ;; randn(-1) ;; randn(NULL)
uuid: uuid(0) ;; uuid(42) ;; length(uuid()) ;; uuid() <> uuid()
shuffle: shuffle(array(1, 2, 3, 4, 5), 42) ;; shuffle(array('a', NULL, 'c'), 0) ;; shuffle(CAST(NULL AS ARRAY<INT>), 1) ;; shuffle(array(), 1)
randstr: randstr(5, 0) ;; randstr(3, 42) ;; randstr(0, 1) ;; length(randstr(4))
randstr_bad: randstr(-1, 0)
uniform: uniform(0, 100, 5) ;; uniform(10, 20, 0) ;; uniform(0.0D, 1.0D, 42) ;; uniform(1.5BD, 9.5BD, 3) ;; uniform(0, NULL, 1) ;; uniform(0L, 10L, 7) ;; uniform(0F, 1F, 7)
expr: rand(42) + 1 ;; CAST(rand(7) * 100 AS INT) ;; CASE WHEN rand(1) < 2 THEN 'yes' END ;; round(rand(42) - rand(42), 3)
seed_column: rand(id)
place: monotonically_increasing_id() ;; spark_partition_id() ;; monotonically_increasing_id() + 1 ;; typeof(monotonically_increasing_id()) ;; typeof(spark_partition_id())
""",
    "csv": r"""
from: from_csv('1, 0.8', 'a INT, b DOUBLE') ;; from_csv('1,abc', 'a INT, b STRING') ;; from_csv('1', 'a INT, b STRING') ;; from_csv('1,2,3', 'a INT, b INT') ;; from_csv('', 'a INT, b STRING') ;; from_csv(NULL, 'a INT') ;; from_csv('x,2', 'a INT, b INT')
quotes: from_csv('"a,b","c""d"', 'x STRING, y STRING') ;; from_csv('"a\\"b",2', 'x STRING, y INT') ;; from_csv('"open,2', 'x STRING, y INT') ;; from_csv('a"b,c', 'x STRING, y STRING') ;; from_csv('"",x', 'a STRING, b STRING') ;; from_csv(',x', 'a STRING, b STRING')
space: from_csv(' a , b ', 'x STRING, y STRING') ;; from_csv(' a , b ', 'x STRING, y STRING', map('ignoreLeadingWhiteSpace', 'true', 'ignoreTrailingWhiteSpace', 'true')) ;; from_csv(' 1 ,2', 'x INT, y INT')
types: from_csv('true,2020-01-02,2020-01-02 03:04:05', 'a BOOLEAN, b DATE, c TIMESTAMP') ;; from_csv('1.50,12', 'a DECIMAL(10,2), b BIGINT') ;; from_csv('300,1', 'a TINYINT, b SMALLINT') ;; from_csv('NaN,Inf', 'a DOUBLE, b DOUBLE') ;; from_csv('1e3,1,000', 'a DOUBLE, b INT') ;; from_csv('1,000', 'a FLOAT, b INT')
options: from_csv('26/08/2015', 't TIMESTAMP', map('timestampFormat', 'dd/MM/yyyy')) ;; from_csv('26/08/2015', 't DATE', map('dateFormat', 'dd/MM/yyyy')) ;; from_csv('1|2', 'a INT, b INT', map('sep', '|')) ;; from_csv('1;2', 'a INT, b INT', map('delimiter', ';')) ;; from_csv('-,1', 'a STRING, b INT', map('nullValue', '-')) ;; from_csv("'a,b',1", 'a STRING, b INT', map('quote', "'"))
modes: from_csv('x,2', 'a INT, b INT', map('mode', 'PERMISSIVE')) ;; from_csv('x,2', 'a INT, b INT, _corrupt_record STRING', map('columnNameOfCorruptRecord', '_corrupt_record')) ;; from_csv('1,2', 'a INT, b INT, _corrupt_record STRING', map('columnNameOfCorruptRecord', '_corrupt_record'))
failfast: from_csv('x,2', 'a INT, b INT', map('mode', 'FAILFAST'))
dropmalformed: from_csv('x,2', 'a INT, b INT', map('mode', 'DROPMALFORMED'))
comment: from_csv('#a,1', 'a STRING, b INT', map('comment', '#')) ;; from_csv('#a,1', 'a STRING, b INT') ;; from_csv('a,1', 'a STRING, b INT', map('nanValue', 'x'))
schema_of_arg: from_csv('1,a', schema_of_csv('1,a'))
bad_schema: from_csv('1', 'a ARRAY<INT>')
bad_type: from_csv(1, 'a INT')
to: to_csv(named_struct('a', 1, 'b', 'x,y')) ;; to_csv(named_struct('a', NULL, 'b', 'x')) ;; to_csv(named_struct('a', 'q"t', 'b', 1.5D, 'c', true)) ;; to_csv(named_struct('d', DATE'2020-01-02', 't', TIMESTAMP'2020-01-02 03:04:05.678')) ;; to_csv(named_struct('x', 1.50BD, 'y', 1e10D)) ;; to_csv(named_struct('s', ''))
to2: to_csv(named_struct('a', ' x ', 'b', 'y')) ;; to_csv(named_struct('a', 'l1\nl2')) ;; to_csv(named_struct('time', to_timestamp('2015-08-26', 'yyyy-MM-dd')), map('timestampFormat', 'dd/MM/yyyy')) ;; to_csv(named_struct('a', 1, 'b', 2), map('sep', '|')) ;; to_csv(named_struct('a', 'x', 'b', 1), map('quoteAll', 'true')) ;; to_csv(named_struct('a', NULL), map('nullValue', '-')) ;; to_csv(CAST(NULL AS STRUCT<a: INT>)) ;; to_csv(named_struct('a', array(1, 2)))
to3: to_csv(named_struct('a', 'a\\b')) ;; to_csv(named_struct('a', '#x')) ;; to_csv(named_struct('a', "it's")) ;; to_csv(named_struct('n', TIMESTAMP_NTZ'2020-01-02 03:04:05')) ;; to_csv(named_struct('b', X'4142')) ;; to_csv(named_struct('m', map('k', 1)))
to_bad: to_csv(1)
schema: schema_of_csv('1,abc') ;; schema_of_csv('1,1.5,true,x,') ;; schema_of_csv('2020-01-01,2020-01-01 00:00:00') ;; schema_of_csv('3000000000,99999999999999999999') ;; schema_of_csv('1|abc', map('delimiter', '|')) ;; schema_of_csv('"a,b",c')
""",
    "user": r"""
names: current_user() = session_user() ;; user() = current_user() ;; typeof(current_user()) ;; length(user()) > 0
""",
    "crypto": r"""
gcm: CAST(aes_decrypt(aes_encrypt('Spark', '0000111122223333'), '0000111122223333') AS STRING) ;; length(aes_encrypt('Spark', '0000111122223333')) ;; CAST(aes_decrypt(unhex('6E7CA17BBB468D3084B5744BCA729FB7B2B7BCB8E4472847D02670489D95FA97DBBA7D3210'), '0000111122223333', 'GCM') AS STRING)
gcm_iv: base64(aes_encrypt('Spark', 'abcdefghijklmnop12345678ABCDEFGH', 'GCM', 'DEFAULT', unhex('000000000000000000000000'))) ;; base64(aes_encrypt('Spark', 'abcdefghijklmnop12345678ABCDEFGH', 'GCM', 'DEFAULT', unhex('000000000000000000000000'), 'This is an AAD mixed into the input')) ;; base64(aes_encrypt('', '0000111122223333', 'GCM', 'DEFAULT', unhex('000000000000000000000001')))
gcm_aad: CAST(aes_decrypt(unbase64('AAAAAAAAAAAAAAAAQiYi+sTLm7KD9UcZ2nlRdYDe/PX4'), 'abcdefghijklmnop12345678ABCDEFGH', 'GCM', 'DEFAULT', 'This is an AAD mixed into the input') AS STRING)
gcm_192: base64(aes_encrypt('Spark', 'abcdefghijklmnop12345678', 'GCM', 'DEFAULT', unhex('000000000000000000000000')))
ecb: hex(aes_encrypt('Spark SQL', '1234567890abcdef', 'ECB', 'PKCS')) ;; base64(aes_encrypt('Spark', 'abcdefghijklmnop', 'ECB')) ;; CAST(aes_decrypt(unbase64('3lmwu+Mw0H3fi5NDvcu9lg=='), '1234567890abcdef', 'ECB', 'PKCS') AS STRING) ;; hex(aes_encrypt('0123456789abcdef', 'abcdefghijklmnop12345678', 'ECB')) ;; hex(aes_encrypt('', 'abcdefghijklmnop12345678ABCDEFGH', 'ecb'))
cbc: base64(aes_encrypt('Spark', '1234567890abcdef', 'CBC', 'PKCS', unhex('00000000000000000000000000000000'))) ;; CAST(aes_decrypt(aes_encrypt('Apache Spark', '1234567890abcdef', 'CBC'), '1234567890abcdef', 'CBC') AS STRING) ;; base64(aes_encrypt('Spark', 'abcdefghijklmnop12345678ABCDEFGH', 'CBC', 'DEFAULT', unhex('00000000000000000000000000000000')))
nulls: aes_encrypt(NULL, '0000111122223333') ;; aes_encrypt('a', CAST(NULL AS STRING)) ;; aes_decrypt(NULL, '0000111122223333')
bad_key: aes_encrypt('Spark', 'short')
bad_mode: aes_encrypt('Spark', '0000111122223333', 'CTR')
bad_padding: aes_encrypt('Spark', '0000111122223333', 'GCM', 'PKCS')
bad_iv: aes_encrypt('Spark', '0000111122223333', 'GCM', 'DEFAULT', unhex('00'))
bad_iv_mode: aes_encrypt('Spark', '0000111122223333', 'ECB', 'DEFAULT', unhex('00'))
bad_aad_mode: aes_encrypt('Spark', '0000111122223333', 'CBC', 'DEFAULT', unhex('00000000000000000000000000000000'), 'aad')
bad_input: aes_decrypt(unhex('00112233'), '0000111122223333')
wrong_key: aes_decrypt(unhex('6E7CA17BBB468D3084B5744BCA729FB7B2B7BCB8E4472847D02670489D95FA97DBBA7D3210'), '1111111111111111')
try: CAST(try_aes_decrypt(unhex('6E7CA17BBB468D3084B5744BCA729FB7B2B7BCB8E4472847D02670489D95FA97DBBA7D3210'), '0000111122223333', 'GCM') AS STRING) ;; try_aes_decrypt(unhex('6E7CA17BBB468D3084B5744BCA729FB7B2B7BCB8E4472847D02670489D95FA97DBBA7D3210'), '1111111111111111') ;; try_aes_decrypt(unhex('0011'), '0000111122223333')
hashes: md5('') ;; md5(X'00FF') ;; sha1('') ;; sha2('Spark', 0) ;; sha2('Spark', 224) ;; sha2('Spark', 384) ;; sha2('Spark', 100) ;; sha2(X'00', 256) ;; sha(NULL) ;; sha2('a', NULL) ;; crc32('') ;; crc32(X'00FF')
hmac: hex(hmac('key', 'message')) ;; hex(hmac('key', 'message', 'SHA512'))
xxhash: xxhash64('') ;; xxhash64(NULL) ;; xxhash64(1.5D, 2F) ;; xxhash64(X'0102') ;; xxhash64(true, 1Y, 2S) ;; xxhash64(DATE'2020-01-01', TIMESTAMP'2020-01-01 00:00:00') ;; xxhash64(1.50BD) ;; xxhash64(CAST(123456789012345678901 AS DECIMAL(30,2))) ;; xxhash64(named_struct('a', 1, 'b', 'x')) ;; xxhash64(array(1, NULL, 3)) ;; xxhash64('a longer text, of more than thirty-two bytes, to be hashed') ;; xxhash64(-0.0D) ;; xxhash64()
hash_more: hash() ;; hash(INTERVAL '1' DAY) ;; hash(INTERVAL '1' MONTH) ;; hash(X'01020304050607') ;; hash(CAST(123456789012345678901 AS DECIMAL(30,2))) ;; hash(array(array(1), NULL)) ;; hash('ünïcödé')
hash_map: hash(map('a', 1))
""",
    "utf8": r"""
valid: is_valid_utf8('Spark') ;; is_valid_utf8(X'61') ;; is_valid_utf8(X'80') ;; is_valid_utf8(X'61C262') ;; is_valid_utf8(NULL) ;; is_valid_utf8('é😀')
make: make_valid_utf8('Spark') ;; make_valid_utf8(X'80') ;; make_valid_utf8(X'61C262') ;; make_valid_utf8(NULL)
validate: validate_utf8('Spark') ;; validate_utf8(X'61') ;; validate_utf8(NULL)
validate_bad: validate_utf8(X'80')
try: try_validate_utf8('Spark') ;; try_validate_utf8(X'80') ;; try_validate_utf8(X'61') ;; try_validate_utf8(NULL)
""",
    "binary": r"""
to_binary: to_binary('abc', 'utf-8') ;; to_binary('537061726B', 'hex') ;; to_binary('537061726B') ;; to_binary('U3Bhcms=', 'base64') ;; to_binary('abc', 'UTF8') ;; to_binary(NULL) ;; to_binary('1', 'hex') ;; to_binary('', 'hex')
to_binary_bad: to_binary('xyz', 'hex')
to_binary_bad64: to_binary('a', 'base64')
to_binary_bad_format: to_binary('abc', 'nope')
try: try_to_binary('xyz', 'hex') ;; try_to_binary('a!', 'base64') ;; try_to_binary('abc', 'utf-8') ;; try_to_binary('537061726B') ;; try_to_binary(NULL, 'hex')
try_bad_format: try_to_binary('abc', 'nope')
base64: base64('') ;; base64('a') ;; base64(NULL) ;; unbase64('') ;; unbase64('U3Bh\ncms=') ;; base64('a text that is longer than fifty-seven bytes, so that MIME would break it in lines') ;; unbase64('YQ') ;; unbase64('YW==')
unbase64_bad: unbase64('a!b')
base32: to_base32('Spark') ;; from_base32('KNYGC4TL') ;; to_base32('')
hex: hex(-1) ;; hex(17) ;; hex(X'0A') ;; hex('') ;; hex(NULL) ;; hex(17.5D) ;; hex(10000000000) ;; unhex('F') ;; unhex('xyz') ;; unhex('') ;; hex(unhex('ABC'))
bin: bin(13) ;; bin(-13) ;; bin(13.3D) ;; bin(0) ;; bin(NULL)
substring: substring(X'01020304', 2, 2) ;; substr(X'0102', -1) ;; left(X'010203', 2) ;; concat(X'01', X'02') ;; lpad(X'01', 3, X'00') ;; rpad(X'0102', 3, X'FF') ;; lpad(X'010203', 2) ;; lpad('abc', 5, X'20') ;; octet_length(X'0102') ;; bit_length(X'01') ;; reverse(X'0102')
overlay: overlay(encode('Spark SQL', 'utf-8') PLACING encode('_', 'utf-8') FROM 6) ;; contains(X'010203', X'02') ;; startswith(X'0102', X'01') ;; endswith(X'0102', X'01') ;; position('b', 'abc') ;; btrim(X'202041', X'20')
bits: bit_count(true) ;; bit_count(-1L) ;; bit_count(3Y) ;; bit_count(NULL) ;; bit_get(5, 1) ;; getbit(-1L, 63) ;; bit_get(5, NULL)
bit_get_bad: bit_get(5, 32)
encode: encode('abc', 'UTF-16') ;; encode('é', 'ISO-8859-1') ;; encode('abc', 'US-ASCII') ;; encode('a', 'UTF-16LE') ;; encode('a', 'utf-16be') ;; encode('a', 'UTF-32') ;; encode(NULL, 'utf-8') ;; decode(X'FEFF0061', 'UTF-16') ;; decode(X'61', 'utf-8') ;; decode(X'E9', 'ISO-8859-1') ;; decode(NULL, 'utf-8')
encode_bad: encode('é', 'US-ASCII')
encode_charset: encode('a', 'nope')
decode_bad: decode(X'80', 'UTF-8')
bitmap: bitmap_bit_position(0) ;; bitmap_bit_position(-7) ;; bitmap_bit_position(32768) ;; bitmap_bucket_number(1) ;; bitmap_bucket_number(32769) ;; bitmap_bucket_number(-1) ;; bitmap_bucket_number(0) ;; bitmap_count(X'1010') ;; bitmap_count(X'') ;; bitmap_count(NULL)
""",
    "text": r"""
case: upper('straße') ;; lower('İ') ;; initcap('sPark sql') ;; initcap("o'neil x-y") ;; initcap('a\tb c') ;; upper(NULL) ;; lower(123) ;; upper('ǆ')
pad: lpad('hi', 1, '??') ;; lpad('hi', 5, '') ;; rpad('hi', NULL, 'x') ;; lpad(NULL, 3) ;; rpad('😀', 3, 'é') ;; lpad(1, 3, 0) ;; repeat(NULL, 2) ;; repeat('x', NULL) ;; space(0) ;; space(-1)
trim: trim('\t a \n') ;; trim('abc' FROM 'abcxbca') ;; trim('' FROM 'a') ;; btrim('  a  ') ;; trim(NULL FROM 'a') ;; ltrim('0', '000120') ;; rtrim('20', '000120') ;; trim(BOTH FROM ' x ') ;; trim(LEADING FROM ' x ') ;; trim(TRAILING FROM ' x ')
left: left('abc', -1) ;; left('abc', 0) ;; right('abc', 5) ;; right('abc', -1) ;; left('é😀a', 2) ;; right(NULL, 1) ;; left(12345, 2)
substr: substring('abc', 0) ;; substring('abc', 1, 0) ;; substring('abc', 2, -1) ;; substring('abc', -2147483648) ;; substring('abc', 2147483647, 2147483647) ;; substring('é😀a', 2, 1) ;; substring(NULL, 1) ;; substring('abc', 4) ;; substr('Spark SQL' FROM 5) ;; substring('abc', '2')
concat: concat(NULL, 'a') ;; concat(1, 2) ;; concat(1.5BD, 'x', DATE'2020-01-01') ;; concat_ws('', 'a', 'b') ;; concat_ws(',') ;; concat_ws(',', NULL) ;; concat_ws(',', array('a', NULL), NULL, 'b') ;; concat_ws('/', 1, true, 2.5) ;; concat_ws(',', array()) ;; 'a' || NULL
position: locate('', 'abc') ;; locate('c', 'abc', -1) ;; locate('é', 'aé') ;; instr('abc', '') ;; instr('', 'a') ;; locate(NULL, 'abc') ;; locate('b', 'abcb', 3) ;; charindex('b', 'abcb', 3) ;; position('b', 'abcb', 3) ;; locate('a', 'abc', NULL)
replace: replace('aaa', 'a', 'b') ;; replace('abc', '', 'x') ;; replace('abc', 'b', NULL) ;; replace(NULL, 'a') ;; translate('translate', 'rnlt', '123') ;; translate('aaa', '', 'x') ;; translate('abc', 'aab', '123') ;; overlay('abcdef', 'XX', 3) ;; overlay('abc', 'X', -1) ;; overlay('abc', 'X', 10) ;; overlay('abc', 'X', 2, 0) ;; overlay('abc', 'XYZ', 2, -1)
split: split('a1b2c', '\\d') ;; split('', ',') ;; split('a,b,c', ',', 0) ;; split('a,b,,', ',') ;; split('a,b,c', ',', 1) ;; split('aXbxc', '(?i)x') ;; split('abc', '', 2) ;; split(NULL, ',') ;; split('a.b', '.') ;; split('a||b', '\\|\\|')
split_part: split_part('a,b,c', ',', 1) ;; split_part('a,b,c', ',', -3) ;; split_part('a,b,c', ',', 4) ;; split_part('a', '', 1) ;; split_part(NULL, ',', 1) ;; split_part('abXXcd', 'XX', 2) ;; substring_index('a.b.c', '.', 5) ;; substring_index('a.b.c', '', 1) ;; substring_index(NULL, '.', 1) ;; substring_index('aXXbXXc', 'XX', -1)
levenshtein: levenshtein('', 'abc') ;; levenshtein('kitten', 'sitting', 3) ;; levenshtein('kitten', 'sitting', 0) ;; levenshtein(NULL, 'a') ;; levenshtein('frog', 'fog') ;; levenshtein('a', 'a', -1) ;; levenshtein('é', 'e')
soundex: soundex('Robert') ;; soundex('Ashcraft') ;; soundex('Tymczak') ;; soundex('Pfister') ;; soundex('1abc') ;; soundex('é') ;; soundex(NULL) ;; soundex('O''Hara') ;; soundex('Lloyd') ;; soundex('a b')
luhn: luhn_check('79927398713') ;; luhn_check('79927398714') ;; luhn_check('') ;; luhn_check('6A') ;; luhn_check(NULL) ;; luhn_check('0') ;; luhn_check(' 0') ;; luhn_check(79927398713)
mask: mask('abcd-EFGH-8765-4321') ;; mask('abcd-EFGH-8765-4321', 'Q') ;; mask('AbCD123-@$#', 'Q', 'q') ;; mask('AbCD123-@$#', NULL, 'q', 'd', 'o') ;; mask('AbCD123-@$#', NULL, NULL, NULL, NULL) ;; mask(NULL) ;; mask('ÀÉß1٣') ;; mask('AbCD123-@$#', 'Q', 'q', 'd', NULL) ;; mask('')
mask_bad: mask('abc', 'QQ')
find_in_set: find_in_set('', 'a,,b') ;; find_in_set('a,b', 'a,b') ;; find_in_set(NULL, 'a') ;; find_in_set('c', 'a,b,c') ;; find_in_set('', '') ;; elt(1, NULL, 'a') ;; elt(NULL, 'a', 'b') ;; elt(2, 'a', 1)
sentences: sentences('Hi there! Good morning.') ;; sentences('Hi there! Good morning.', 'en') ;; sentences('Hi there! Good morning.', 'en', 'US') ;; sentences('') ;; sentences(NULL) ;; sentences('One two, three. Four-five six? It is 3.5 km.') ;; sentences("It's John''s. Yes")
str_to_map: str_to_map('a:1,b:2,c') ;; str_to_map('') ;; str_to_map('a') ;; str_to_map('a=1&b=2', '&', '=') ;; str_to_map(NULL) ;; str_to_map('a:1:2') ;; str_to_map('a1b2', '[a-b]', '\\d') ;; str_to_map(',')
str_to_map_twice: str_to_map('a:1,a:2')
chr: chr(0) ;; chr(-1) ;; chr(256) ;; chr(321) ;; chr(233) ;; char(65.7) ;; ascii('😀') ;; ascii('234') ;; ascii(NULL) ;; ascii(2) ;; chr(NULL)
quote: quote('abc') ;; quote("it's") ;; quote('a\\b') ;; quote(NULL)
like_escape: 'a\\b' LIKE 'a\\\\b' ;; '%' LIKE '\\%' ;; 'ab' LIKE 'a%b' ;; '' LIKE '%' ;; 'a\nb' LIKE 'a%b' ;; 'aé' LIKE 'a_'
compare: contains('abc', '') ;; contains(NULL, 'a') ;; startswith('', '') ;; endswith('abc', NULL) ;; contains(1234, 23) ;; length('a ') ;; length(NULL) ;; length(12345) ;; char_length('😀') ;; octet_length('😀') ;; bit_length('é')
jaro: jaro_winkler_similarity('MARTHA', 'MARHTA') ;; jaro_winkler_similarity('abc', 'xyz') ;; jaro_winkler_similarity('', '') ;; jaro_winkler_similarity('DIXON', 'DICKSONX') ;; jaro_winkler_similarity(NULL, 'a')
collation: collation('a') ;; collate('a', 'UTF8_BINARY') ;; collation(concat('a', 'b'))
format: format_string('%s %d', 'a', 1) ;; format_string('%5.1f|%-6s|%06d', 3.14159D, 'ab', 42) ;; format_string('%x %X %o', 255, 255, 8) ;; format_string('%e', 12345.678D) ;; format_string('%,d', 1234567) ;; format_string('%+d % d', 5, 5) ;; format_string('%2$s %1$s', 'a', 'b') ;; format_string('%%') ;; format_string('%s', NULL) ;; format_string('%c', 'a') ;; format_string('%b', true) ;; format_string('%10s|', 'abc') ;; format_string('%.2s', 'abc') ;; format_string('%(d', -5) ;; printf('%S', 'abc') ;; format_string('%s', 1.0D) ;; format_string('%s', DATE'2020-01-01') ;; format_string('%s', array(1, 2)) ;; format_string('%d', 1L) ;; format_string('%.3f', 1.0005BD)
format_bad: format_string('%d', 'a')
format_missing: format_string('%s %s', 'a')
format_number: format_number(1234567.891, 2) ;; format_number(-0.5, 0) ;; format_number(1.5, 0) ;; format_number(2.5D, 0) ;; format_number(1234, -1) ;; format_number(NULL, 2) ;; format_number(1234.5, '#.00') ;; format_number(1234567, '#,###') ;; format_number(0.0001D, 3) ;; format_number(1e20D, 1) ;; format_number(123, 0) ;; format_number(1234.5678, '###,###.0#') ;; format_number(12, '0000.00') ;; format_number(double('NaN'), 2)
""",
    "regexp": r"""
like: regexp_like('abc', 'B') ;; regexp_like('a\nb', 'a.b') ;; rlike('abc', '') ;; regexp('', '^$') ;; regexp_like(NULL, 'a') ;; 'abc' RLIKE NULL ;; regexp_like('aB', '(?i)ab') ;; regexp_like('foobar', 'o{2}') ;; regexp_like('a1', '\\p{L}\\p{N}') ;; regexp_like('tab\t', '\\s$')
replace: regexp_replace('abc', '', '-') ;; regexp_replace('aaa', 'a', '$0b') ;; regexp_replace('a.b', '\\.', '\\\\') ;; regexp_replace('abc', 'b', '') ;; regexp_replace(NULL, 'a', 'b') ;; regexp_replace('abcb', 'b', 'X', 4) ;; regexp_replace('abc', 'B', 'x') ;; regexp_replace('2020-01-02', '(\\d+)-(\\d+)-(\\d+)', '$3/$2/$1') ;; regexp_replace('a  b', '\\s+', ' ') ;; regexp_replace('x1y22', '[0-9]+', '<$0>')
replace_at: regexp_replace('abc', 'b', 'x', 0)
extract: regexp_extract('foo123bar', '([a-z]+)(\\d+)', 2) ;; regexp_extract('foo', '(x)?foo', 1) ;; regexp_extract('abc', 'b', 0) ;; regexp_extract(NULL, 'a', 0) ;; regexp_extract('key=val', '(\\w+)=(\\w+)', 0) ;; regexp_extract_all('a1b2', '([a-z])(\\d)', 0) ;; regexp_extract_all('a1b2', '\\d', 0) ;; regexp_extract_all('abc', '\\d', 0) ;; regexp_extract_all('a1b2', '([a-z])(\\d)')
others: regexp_count('aaa', 'aa') ;; regexp_count('abc', '') ;; regexp_count(NULL, 'a') ;; regexp_substr('abc', 'd') ;; regexp_substr('abcabc', 'c.') ;; regexp_instr('abc', 'c') ;; regexp_instr('abc', 'x') ;; regexp_instr(NULL, 'x') ;; regexp_instr('éa', 'a')
bad_pattern: regexp_like('a', '(')
bad_pattern_replace: regexp_replace('a', '[', 'x')
look: regexp_replace('price100', '(?<=price)\\d+', 'X') ;; regexp_like('ab', 'a(?=b)') ;; regexp_extract('aa', '(a)\\1', 0) ;; split('aBcD', '(?=[A-Z])')
possessive: regexp_replace('aaab', 'a++b', 'x') ;; regexp_like('abc', '\\Aabc\\z') ;; regexp_like('a-b', '[\\w-]+') ;; regexp_like('ab', '\\bab\\b') ;; regexp_like('é', '\\w') ;; regexp_like('x', '[a-z&&[^x]]') ;; regexp_extract('a\\Qb', '\\Q\\Q\\E', 0)
""",
    "url": r"""
parse: parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'HOST') ;; parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'PATH') ;; parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'QUERY') ;; parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'REF') ;; parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'PROTOCOL') ;; parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'FILE') ;; parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'AUTHORITY') ;; parse_url('https://user:pw@spark.apache.org:8080/a/b.html?q=1&r=2#frag', 'USERINFO')
parse2: parse_url('http://a.b/?x=1', 'QUERY', 'x') ;; parse_url('http://a.b/?x=1', 'QUERY', 'y') ;; parse_url('http://a.b', 'PATH') ;; parse_url('http://a.b', 'QUERY') ;; parse_url('a/b', 'HOST') ;; parse_url('http://a.b/', 'NOPE') ;; parse_url(NULL, 'HOST') ;; parse_url('http://a.b/p?x=%20y', 'QUERY', 'x') ;; parse_url('mailto:a@b.c', 'PROTOCOL') ;; parse_url('', 'HOST') ;; parse_url('http://a.b/', 'host') ;; parse_url('http://[::1]:80/x', 'HOST') ;; parse_url('http://A.B/', 'HOST')
parse_bad: parse_url('http://a b.c/', 'HOST')
try: try_parse_url('http://a b.c/', 'HOST') ;; try_parse_url('http://a.b/p', 'PATH') ;; try_parse_url('http://a.b/?x=1', 'QUERY', 'x')
code: url_encode('https://spark.apache.org') ;; url_encode('a b+c~*-_.é') ;; url_encode('') ;; url_encode(NULL) ;; url_decode('https%3A%2F%2Fspark.apache.org') ;; url_decode('a+b') ;; url_decode('%C3%A9') ;; url_decode(NULL) ;; try_url_decode('%zz') ;; try_url_decode('a%20b')
decode_bad: url_decode('%zz')
""",
    "number": r"""
to_number: to_number('454', '999') ;; to_number('454.00', '000.00') ;; to_number('12,454', '99,999') ;; to_number('$78.12', '$99.99') ;; to_number('12,454.8-', '99,999.9S') ;; to_number('-12', 'S99') ;; to_number('+12', 'S99') ;; to_number('<12>', '99PR') ;; to_number('12-', '99MI') ;; to_number('-12', 'MI99') ;; to_number('1', '999') ;; to_number('  1', '999') ;; to_number('.5', '9.9') ;; to_number('5', '9.9') ;; to_number(NULL, '999') ;; to_number('4', '0')
to_number_bad: to_number('abc', '999')
to_number_long: to_number('1234', '999')
to_number_format: to_number('1', '99x')
to_number_comma: to_number('1234', '9,999')
try: try_to_number('1234', '999') ;; try_to_number('x', '9') ;; try_to_number('$1', '9') ;; try_to_number('1234', '9,999') ;; try_to_number('1,234', '9,999') ;; try_to_number('1.5', '9') ;; try_to_number('-1', '9') ;; try_to_number('12', '00') ;; try_to_number('2', '00')
to_char: to_char(454, '999') ;; to_char(454.00, '000D00') ;; to_char(12454, '99G999') ;; to_char(78.12, '$99.99') ;; to_char(-12454.8, '99G999D9S') ;; to_char(12454.8, '99G999D9S') ;; to_char(-12, '99MI') ;; to_char(12, '99MI') ;; to_char(-12, 'MI99') ;; to_char(-12, 'S99') ;; to_char(12, 'S99') ;; to_char(-12, '99PR') ;; to_char(12, '99PR') ;; to_char(0, '999') ;; to_char(0, '000') ;; to_char(0.5, '9.9') ;; to_char(5, '999') ;; to_char(5, '000') ;; to_char(12345, '999') ;; to_char(1.5, '9') ;; to_char(NULL, '9') ;; to_char(1234567, '9,999,999') ;; to_char(5, '9,999') ;; to_char(-5, '9')
to_char2: to_char(DATE'2016-04-08', 'y') ;; to_char(TIMESTAMP'2016-04-08 01:02:03', 'yyyy/MM/dd HH') ;; to_char(X'537061726B', 'base64') ;; to_char(X'537061726B', 'hex') ;; to_char(encode('abc', 'utf-8'), 'utf-8') ;; to_varchar(454, '999') ;; to_varchar(DATE'2016-04-08', 'yyyy') ;; to_char(1.1D, '9.9') ;; to_char(-1.1BD, 'S9.9') ;; to_char(0.05, '$0.00') ;; to_char(0.05, '$9.99')
to_char_bad: to_char(X'00', 'nope')
to_char_text: to_char('abc', '999')
conv: conv('11', 10, 2) ;; conv('-11', 10, 16) ;; conv('-11', 10, -16) ;; conv('', 10, 2) ;; conv('zz', 10, 2) ;; conv('1g', 16, 10) ;; conv('9223372036854775808', 10, -10) ;; conv('11', 1, 10) ;; conv('11', 10, 37) ;; conv(NULL, 10, 2) ;; conv(' 10 ', 10, 2) ;; conv('a', 36, 10) ;; conv(255, 10, 16) ;; conv('1.5', 10, 10) ;; conv('18446744073709551615', 10, 16)
conv_big: conv('18446744073709551616', 10, 16)
conv_off: [spark.sql.ansi.enabled=false] conv('18446744073709551616', 10, 16) ;; conv('-18446744073709551616', 10, 10)
width: width_bucket(5.3, 0.2, 10.6, 5) ;; width_bucket(-2.1, 1.3, 3.4, 3) ;; width_bucket(8.1, 0.0, 5.7, 4) ;; width_bucket(-0.9, 5.2, 0.5, 2) ;; width_bucket(1, 1, 1, 5) ;; width_bucket(1, 0, 10, 0) ;; width_bucket(10, 0, 10, 5) ;; width_bucket(0, 0, 10, 5) ;; width_bucket(NULL, 0, 10, 5) ;; width_bucket(double('NaN'), 0, 10, 5) ;; width_bucket(INTERVAL '0' YEAR, INTERVAL '0' YEAR, INTERVAL '10' YEAR, 10) ;; width_bucket(INTERVAL '1' DAY, INTERVAL '0' DAY, INTERVAL '10' DAY, 11) ;; width_bucket(5, 0, 10, 3000000000)
factorial: factorial(0) ;; factorial(20) ;; factorial(-1) ;; factorial(NULL) ;; factorial(21)
ceil: ceil(-0.1) ;; ceil(5) ;; ceil(3.1411, 3) ;; ceil(3.1411, -3) ;; ceil(-12.345, 1) ;; floor(-0.1) ;; floor(5) ;; floor(3.1411, 3) ;; floor(-12.345, 1) ;; floor(12345, -2) ;; ceil(2.5D) ;; ceil(NULL) ;; floor(1.23D, 1) ;; ceil(1e20BD) ;; ceil(9223372036854775807L)
round: round(2.5, 0) ;; round(-2.5D) ;; round(125, -1) ;; round(125, -3) ;; bround(125, -1) ;; bround(2.5, 0) ;; round(1.005D, 2) ;; round(2.675, 2) ;; round(NULL, 1) ;; round(3.14159BD, 3) ;; round(1e300D, 2) ;; bround(0.35, 1) ;; round(9.99, 1) ;; round(0.5F) ;; round(12345678901234567890BD, -5) ;; round(1.5D, 400) ;; round(-0.4D)
round_overflow: round(127Y, -1)
log: log(0, 10) ;; log(10, 0) ;; log(1, 10) ;; log(NULL) ;; ln(1) ;; log2(0) ;; log10(-1) ;; log1p(-1) ;; log1p(0) ;; exp(0) ;; expm1(0) ;; sqrt(-1) ;; cbrt(-27) ;; power(0, 0) ;; power(-8, 1/3D) ;; pow(2, -1) ;; hypot(3, NULL)
sign: sign(-0.0D) ;; sign(INTERVAL '-1' DAY) ;; signum(0) ;; sign(NULL) ;; sign(5BD) ;; abs(-0.0D) ;; abs(INTERVAL '-1' DAY) ;; abs(NULL) ;; negative(1.5BD) ;; positive('1') ;; abs('-2')
trig: sin(0) ;; cos(NULL) ;; asin(2) ;; acosh(0) ;; atanh(1) ;; atan2(0, -1) ;; cot(0) ;; sec(0) ;; csc(0) ;; degrees(1) ;; radians(1) ;; tan('1') ;; e() ;; pi()
extremes: greatest(1, NULL, 3) ;; least(NULL, NULL) ;; greatest(1.0D, double('NaN')) ;; least(1.0D, double('NaN')) ;; greatest('a', 'B') ;; least(1, 2.5, 3L) ;; greatest(array(1, 2), array(1, 3)) ;; greatest(DATE'2020-01-01', TIMESTAMP'2020-01-01 01:00:00')
greatest_one: greatest(1)
mod: pmod(-7, 3) ;; pmod(7, -3) ;; pmod(-7.5D, 2) ;; mod(7, -3) ;; mod(-7, 3) ;; pmod(1.5BD, 1) ;; mod(NULL, 2) ;; mod(5.5, 2)
pmod_zero: pmod(1, 0)
try_math: try_add(127Y, 1Y) ;; try_subtract(1, NULL) ;; try_multiply(9223372036854775807L, 2L) ;; try_divide(1.0D, 0.0D) ;; try_divide(INTERVAL '1' DAY, 0) ;; try_mod(7, 3) ;; try_mod(7, 0) ;; try_add(DATE'2020-01-01', 1) ;; try_add(INTERVAL '1' DAY, INTERVAL '1' DAY) ;; try_add(CAST(99999999999999999999999999999999999999 AS DECIMAL(38,0)), 1) ;; try_multiply(INTERVAL '1' DAY, 2) ;; try_subtract(TIMESTAMP'2020-01-02 00:00:00', INTERVAL '1' DAY) ;; try_divide(3, 2) ;; try_divide('x', 2)
shifts: shiftleft(1, 33) ;; shiftleft(1L, 33) ;; shiftright(-8, 1) ;; shiftrightunsigned(-8L, 1) ;; shiftleft(NULL, 1) ;; shiftright(1Y, 1) ;; 1 << 2 ;; -8 >> 1 ;; -8 >>> 28 ;; shiftleft(1, -1)
bits: 5 & 6L ;; 5Y | 2S ;; ~5L ;; ~0Y ;; bit_count(7S) ;; 6 ^ NULL ;; 1Y & 3Y
double_text: 1e-300 ;; 1.5e10 ;; 1e38 ;; 1.0E-20BD ;; -1e-300
rint: rint(-0.5) ;; rint(1.5D) ;; rint(NULL) ;; isnan(NULL) ;; isnan('NaN') ;; isnan(1F) ;; nanvl(NULL, 1) ;; nanvl(float('NaN'), 2F) ;; nanvl(1, NULL)
vector_edges: vector_norm(array(1F, CAST(NULL AS FLOAT))) ;; vector_cosine_similarity(array(0F, 0F), array(1F, 1F)) ;; vector_normalize(array(0F, 0F)) ;; vector_norm(CAST(array() AS ARRAY<FLOAT>)) ;; vector_inner_product(CAST(array() AS ARRAY<FLOAT>), CAST(array() AS ARRAY<FLOAT>)) ;; vector_norm(array(3F, -4F), float('inf')) ;; vector_normalize(array(3F, -4F), 1F) ;; vector_l2_distance(array(1F), CAST(NULL AS ARRAY<FLOAT>)) ;; vector_cosine_similarity(array(1F, CAST(NULL AS FLOAT)), array(1F, 1F)) ;; vector_normalize(array(1F, CAST(NULL AS FLOAT)))
vector_mismatch: vector_inner_product(array(1F), array(1F, 2F))
vector_norm_bad: vector_norm(array(1F), 3F)
vector_double: vector_norm(array(1D))
vector: vector_norm(array(3F, 4F)) ;; vector_inner_product(array(1F, 2F), array(3F, 4F)) ;; vector_cosine_similarity(array(1F, 0F), array(1F, 1F)) ;; vector_l2_distance(array(1F, 2F), array(4F, 6F)) ;; vector_normalize(array(3F, 4F)) ;; vector_norm(array(3F, 4F), 1F) ;; vector_norm(NULL) ;; vector_inner_product(array(), array())
""",
    "time": r"""
make_interval: make_interval() ;; make_interval(1) ;; make_interval(100, 11) ;; make_interval(1, 2, 3, 4, 5, 6, 7.008009) ;; make_interval(NULL, 1) ;; make_interval(0, 0, 0, 0, 0, 0, 0.5) ;; make_interval(-1, 2) ;; make_interval(0, 0, 1, 1, 0, 0, 100.000001)
make_interval_big: make_interval(2147483647)
try_make_interval: try_make_interval(1, 2, 3, 4, 5, 6, 7.5) ;; try_make_interval(2147483647) ;; try_make_interval() ;; try_make_interval(NULL)
make_dt: make_dt_interval() ;; make_dt_interval(1) ;; make_dt_interval(1, 12, 30, 1.001001) ;; make_dt_interval(0, 25) ;; make_dt_interval(-1, 1) ;; make_dt_interval(NULL, 1) ;; make_dt_interval(1, 2, 3, 60.5)
make_dt_big: make_dt_interval(2147483647)
make_ym: make_ym_interval() ;; make_ym_interval(1) ;; make_ym_interval(1, 2) ;; make_ym_interval(-1, 1) ;; make_ym_interval(NULL, 1) ;; make_ym_interval(0, 25)
make_ym_big: make_ym_interval(178956970, 8)
make_date: make_date(2024, 2, 29) ;; make_date(NULL, 1, 1) ;; make_date(1, 1, 1) ;; make_date(-1, 1, 1) ;; make_date('2024', 1, 1) ;; make_date(9999, 12, 31)
make_date_bad: make_date(2024, 13, 1)
make_ts: make_timestamp(2024, 1, 1, 0, 0, 0) ;; make_timestamp(2024, 12, 31, 23, 59, 60) ;; make_timestamp(2024, 1, 1, 12, 30, 45.887, 'Europe/Paris') ;; make_timestamp(NULL, 1, 1, 0, 0, 0) ;; make_timestamp_ntz(2024, 1, 1, 12, 30, 45.887) ;; make_timestamp_ltz(2024, 1, 1, 12, 30, 45.887, 'America/New_York') ;; make_timestamp(2024, 1, 1, 1, 1, 0.0000001BD) ;; make_timestamp_ntz(DATE'2024-01-01', TIME'01:02:03') ;; make_timestamp(1, 1, 1, 0, 0, 0)
make_ts_bad: make_timestamp(2024, 1, 1, 25, 0, 0)
make_ts_bad_second: make_timestamp(2024, 1, 1, 0, 0, 60.5)
make_ts_bad_zone: make_timestamp(2024, 1, 1, 0, 0, 0, 'Nowhere')
try_make_ts: try_make_timestamp(2024, 1, 1, 25, 0, 0) ;; try_make_timestamp(2024, 1, 1, 0, 0, 60.5) ;; try_make_timestamp_ntz(2024, 13, 1, 0, 0, 0) ;; try_make_timestamp_ltz(2024, 1, 1, 0, 0, 0) ;; try_make_timestamp_ltz(2024, 1, 1, 0, 0, 0, 'Asia/Tokyo') ;; try_make_timestamp(NULL, 1, 1, 0, 0, 0)
zones: convert_timezone('Europe/Brussels', 'America/Los_Angeles', TIMESTAMP_NTZ'2021-12-06 00:00:00') ;; convert_timezone('Europe/Brussels', TIMESTAMP_NTZ'2021-12-05 15:00:00') ;; convert_timezone('UTC', '+03:30', '2021-12-05 15:00:00') ;; convert_timezone(NULL, 'UTC', TIMESTAMP_NTZ'2021-12-06 00:00:00') ;; convert_timezone('UTC', 'Europe/Paris', TIMESTAMP'2024-07-01 00:00:00') ;; convert_timezone('UTC', 'Europe/Paris', DATE'2024-07-01')
zone_bad: convert_timezone('Nowhere', 'UTC', TIMESTAMP_NTZ'2021-12-06 00:00:00')
utc: from_utc_timestamp('2016-08-31', 'Asia/Seoul') ;; to_utc_timestamp('2016-08-31', 'Asia/Seoul') ;; from_utc_timestamp(TIMESTAMP'2024-03-10 07:30:00', 'America/New_York') ;; to_utc_timestamp(TIMESTAMP'2024-03-10 02:30:00', 'America/New_York') ;; from_utc_timestamp(NULL, 'UTC') ;; from_utc_timestamp(TIMESTAMP'2024-01-01 00:00:00', '+05:30') ;; from_utc_timestamp(TIMESTAMP'2024-01-01 00:00:00', 'PST')
utc_bad: from_utc_timestamp(TIMESTAMP'2024-01-01 00:00:00', 'Nowhere')
unix: to_unix_timestamp('2016-04-08', 'yyyy-MM-dd') ;; to_unix_timestamp('2016-04-08 00:00:00') ;; to_unix_timestamp(DATE'2016-04-08') ;; to_unix_timestamp(TIMESTAMP'1969-12-31 23:59:59.5') ;; unix_timestamp(TIMESTAMP'1969-12-31 23:59:58.5') ;; unix_timestamp(TIMESTAMP_NTZ'2016-04-08 01:00:00') ;; to_unix_timestamp(NULL) ;; unix_timestamp('2016-04-08 12:30', 'yyyy-MM-dd HH:mm')
unix_bad: to_unix_timestamp('xx')
unix2: unix_seconds(TIMESTAMP'1969-12-31 23:59:58.5') ;; unix_millis(TIMESTAMP'1969-12-31 23:59:58.5001') ;; unix_micros(TIMESTAMP'1969-12-31 23:59:58.5001') ;; unix_date(DATE'1969-12-31') ;; unix_date(NULL) ;; date_from_unix_date(-1) ;; unix_seconds('2020-01-01 00:00:00') ;; unix_nanos(TIMESTAMP'2020-01-01 00:00:00')
seconds: timestamp_seconds(-1.5) ;; timestamp_seconds(1230219000) ;; timestamp_seconds(1.23456789D) ;; timestamp_seconds(NULL) ;; timestamp_millis(-1) ;; timestamp_micros(-1) ;; timestamp_millis(NULL) ;; timestamp_seconds(1.1234567BD)
seconds_big: timestamp_seconds(9223372036854775807)
millis_big: timestamp_millis(9223372036854775807)
from_unixtime: from_unixtime(0, 'yyyy') ;; from_unixtime(-1) ;; from_unixtime(NULL) ;; from_unixtime(1.9) ;; from_unixtime('100') ;; from_unixtime(0, NULL) ;; from_unixtime(253402300800)
trunc: trunc(DATE'2019-08-04', 'week') ;; trunc('2019-08-04', 'quarter') ;; trunc(DATE'2019-08-04', 'mon') ;; trunc(DATE'2019-08-04', 'YY') ;; trunc(DATE'2019-08-04', NULL) ;; trunc(DATE'2019-08-04', 'day') ;; date_trunc('YEAR', '2015-03-05T09:32:05.359') ;; date_trunc('mm', TIMESTAMP'2015-03-05 09:32:05') ;; date_trunc('SECOND', TIMESTAMP'2015-03-05 09:32:05.359') ;; date_trunc('MICROSECOND', TIMESTAMP'2015-03-05 09:32:05.123456') ;; date_trunc('nope', TIMESTAMP'2015-03-05 09:32:05') ;; date_trunc('DD', DATE'2015-03-05') ;; date_trunc('HOUR', TIMESTAMP_NTZ'2015-03-05 09:32:05') ;; date_trunc('DECADE', TIMESTAMP'2015-03-05 09:32:05')
months: months_between('1997-02-28', '1996-10-30') ;; months_between('2020-01-31', '2020-02-29') ;; months_between(NULL, '2020-01-01') ;; months_between('2020-03-15 12:00:00', '2020-02-15 00:00:00') ;; add_months('2016-08-31', 1) ;; add_months(DATE'2016-08-31', -6) ;; add_months(DATE'2016-01-01', NULL) ;; last_day('2009-01-12') ;; last_day(NULL) ;; next_day('2015-01-14', 'TU') ;; next_day('2015-01-14', 'thu') ;; next_day(NULL, 'TU')
dates: date_add('2016-07-30', 1) ;; date_add(DATE'2016-07-30', '1') ;; date_sub('2016-07-30', -1) ;; date_diff('2009-07-31', '2009-07-30') ;; datediff(TIMESTAMP'2009-07-31 23:00:00', DATE'2009-07-30') ;; date_add(DATE'2016-07-30', 1Y) ;; dateadd(DAY, 1, DATE'2020-01-01') ;; date_add(NULL, 1) ;; weekday('2009-07-30') ;; dayofweek('2009-07-30') ;; dayname('2009-07-30') ;; monthname(NULL) ;; weekofyear('2008-02-20') ;; dayofyear('2016-04-09') ;; quarter('2016-08-31')
date_add_big: date_add(DATE'2020-01-01', 1.5)
parse: to_date('2009-07-30 04:17:52') ;; to_date('2016-12-31', 'yyyy-MM-dd') ;; to_date(NULL) ;; to_date('12/31/99', 'MM/dd/yy') ;; to_timestamp('2016-12-31', 'yyyy-MM-dd') ;; to_timestamp('2016-12-31 00:12:00') ;; to_timestamp(NULL) ;; to_timestamp('10 Jan 2020', 'd MMM yyyy') ;; to_timestamp('2020-01-27T06:29:30.123', "yyyy-MM-dd'T'HH:mm:ss.SSS") ;; to_timestamp_ntz('2016-12-31', 'yyyy-MM-dd') ;; to_timestamp_ltz('2016-12-31 00:12:00+01:00') ;; try_to_timestamp('foo', 'yyyy-MM-dd') ;; try_to_date('2016-12-32') ;; try_to_date('foo', 'yyyy') ;; to_timestamp('2020-01-01 10:00 PM', 'yyyy-MM-dd hh:mm a') ;; to_date(TIMESTAMP'2020-01-01 23:00:00') ;; to_timestamp(DATE'2020-01-01') ;; to_timestamp(1) ;; to_timestamp('2020-01-01T00:00:00Z', "yyyy-MM-dd'T'HH:mm:ssX")
format: date_format('2016-04-08', 'y') ;; date_format(TIMESTAMP'2016-04-08 13:05:09.1', 'M/d/yy h:m:s.S a') ;; date_format(DATE'2016-04-08', 'D') ;; date_format(DATE'2016-04-08', 'E EEEE') ;; date_format(TIMESTAMP'2016-04-08 13:05:09', 'k K H') ;; date_format(DATE'2016-04-08', 'LLL LLLL') ;; date_format(DATE'2016-04-08', 'Q QQ') ;; date_format(DATE'2016-04-08', 'G') ;; date_format(TIMESTAMP'2016-04-08 13:05:09', 'z VV') ;; date_format(TIMESTAMP'2016-04-08 13:05:09', "yyyy''MM") ;; date_format(NULL, 'y') ;; date_format(DATE'2016-04-08', NULL) ;; date_format(TIMESTAMP'2016-04-08 13:05:09', 'xxx ZZZZZ O') ;; date_format(TIMESTAMP'2016-04-08 13:05:09.123456', 'SSSSSS n') ;; date_format(DATE'2016-04-08', 'QQQ') ;; date_format(DATE'2016-04-08', '[yyyy]')
parts: date_part('YEAR', TIMESTAMP'2019-08-12 01:00:00.123456') ;; date_part('week', TIMESTAMP'2019-08-12 01:00:00') ;; date_part('SECONDS', TIMESTAMP'2019-10-01 00:00:01.000001') ;; date_part('days', INTERVAL 5 DAYS) ;; date_part('MONTH', INTERVAL '2021-11' YEAR TO MONTH) ;; date_part('MINUTE', INTERVAL '123 23:55:59.002001' DAY TO SECOND) ;; date_part('seconds', INTERVAL '123 23:55:59.002001' DAY TO SECOND) ;; date_part(NULL, DATE'2020-01-01') ;; extract(DAYOFWEEK FROM DATE'2020-01-01') ;; date_part('d', DATE'2020-01-02') ;; second(TIMESTAMP'2020-01-01 00:00:59.9') ;; year('2020') ;; hour(TIMESTAMP_NTZ'2020-01-01 05:00:00')
part_bad: date_part('nope', DATE'2020-01-01')
now: current_timestamp() = now() ;; unix_timestamp() > 0 ;; typeof(current_time()) ;; typeof(now()) ;; current_timezone() ;; curdate() = current_date()
timestampadd: timestampadd(MONTH, 1, TIMESTAMP'2024-01-31 00:00:00') ;; timestampadd(MICROSECOND, 5, TIMESTAMP'2022-02-28 00:00:00') ;; timestampdiff(MONTH, TIMESTAMP'2021-02-28 12:00:00', TIMESTAMP'2021-03-28 11:59:59') ;; timestampdiff(YEAR, DATE'2021-01-01', DATE'1900-03-28') ;; timestampdiff(SECOND, TIMESTAMP'2021-01-01 00:00:00', TIMESTAMP'2021-01-01 00:01:00')
time: make_time(1, 2, 3.5) ;; to_time('01:02:03') ;; typeof(TIME'01:02:03') ;; hour(TIME'01:02:03') ;; time_trunc('HOUR', TIME'01:02:03') ;; time_diff('MINUTE', TIME'01:02:03', TIME'02:02:03') ;; try_to_time('x') ;; CAST(TIME'01:02:03' AS STRING)
""",
    "collection": r"""
sequence: sequence(1, 5) ;; sequence(5, 1) ;; sequence(1, 10, 3) ;; sequence(DATE'2018-01-01', DATE'2018-03-01', INTERVAL 1 MONTH) ;; sequence(DATE'2018-01-31', DATE'2018-05-01', INTERVAL 1 MONTH) ;; sequence(DATE'2018-01-05', DATE'2018-01-01') ;; sequence(DATE'2018-01-01', DATE'2018-01-03') ;; sequence(TIMESTAMP'2018-01-01 00:00:00', TIMESTAMP'2018-01-01 02:00:00', INTERVAL 30 MINUTES) ;; sequence(1L, 3L) ;; sequence(1Y, 3Y) ;; sequence(NULL, 5) ;; sequence(1, 1) ;; sequence(DATE'2020-01-01', DATE'2021-01-01', INTERVAL '6' MONTH) ;; sequence(5, 1, -2) ;; sequence(DATE'2020-01-01', DATE'2020-01-10', INTERVAL 1 WEEK) ;; sequence(TIMESTAMP_NTZ'2018-01-01 00:00:00', TIMESTAMP_NTZ'2018-01-03 00:00:00', INTERVAL 1 DAY)
sequence_zone: [spark.sql.session.timeZone=Europe/Paris] sequence(TIMESTAMP'2024-03-30 12:00:00', TIMESTAMP'2024-04-01 12:00:00', INTERVAL 1 DAY)
sequence_bad: sequence(1, 5, -1)
sequence_zero: sequence(1, 5, 0)
zip: arrays_zip(array(1, 2, 3), array('a', 'b')) ;; arrays_zip() ;; arrays_zip(array(1), NULL) ;; arrays_zip(array(), array(1)) ;; zip_with(array(1, 2), array(3), (x, y) -> x + y) ;; zip_with(array('a'), array(1), (x, y) -> (y, x)) ;; zip_with(NULL, array(1), (x, y) -> x)
maps: map_zip_with(map(1, 'a', 2, 'b'), map(1, 'x', 3, 'y'), (k, a, b) -> concat(coalesce(a, '-'), coalesce(b, '-'))) ;; transform_keys(map_from_arrays(array(1, 2), array(1, 2)), (k, v) -> k + v) ;; transform_values(map('a', 1), (k, v) -> concat(k, v)) ;; map_filter(map(1, 0, 2, 2), (k, v) -> k > v) ;; transform_values(CAST(NULL AS MAP<STRING, INT>), (k, v) -> v)
transform_keys_null: transform_keys(map('a', 1), (k, v) -> CAST(NULL AS STRING))
transform_keys_twice: transform_keys(map('a', 1, 'b', 2), (k, v) -> 'x')
entries: map_from_entries(array(struct(1, 'a'), struct(2, 'b'))) ;; map_from_entries(array(struct(1, NULL))) ;; map_from_entries(NULL) ;; map_from_entries(array(struct(1, 'a'), NULL)) ;; map_entries(map(1, 'a')) ;; map_from_arrays(array(1.0, 3.0), array('2', '4')) ;; map_concat(map(1, 'a'), map(2, 'b')) ;; map_concat() ;; map_contains_key(map(1, 'a'), 1) ;; map_contains_key(map(1, 'a'), 3) ;; map_keys(map()) ;; element_at(map(1, 'a'), 2) ;; try_element_at(map(1, 'a'), 2) ;; map(1, 'a')[2]
entries_twice: map_from_entries(array(struct(1, 'a'), struct(1, 'b')))
entries_null_key: map_from_entries(array(struct(CAST(NULL AS INT), 'a')))
arrays_length: map_from_arrays(array(1, 2), array('a'))
concat_twice: map_concat(map(1, 'a'), map(1, 'b'))
map_odd: map(1)
set: array_union(array(1, NULL), array(NULL, 2)) ;; array_intersect(array(1, NULL, 1), array(NULL, 1)) ;; array_except(array(1, NULL), array(2)) ;; array_distinct(array(1.0D, double('NaN'), double('NaN'))) ;; array_union(array(0.0D), array(-0.0D)) ;; arrays_overlap(array(NULL), array(NULL)) ;; arrays_overlap(array(), array(1)) ;; arrays_overlap(array(1, NULL), array(1)) ;; array_union(array(1), array(2L)) ;; array_remove(array(1, NULL, 3, 3), 3) ;; array_remove(array(1), NULL)
position: array_position(array(1, NULL), NULL) ;; array_contains(array(1, 2), NULL) ;; array_contains(NULL, 1) ;; array_position(array('b', 'd'), 'd') ;; array_contains(array(double('NaN')), double('NaN'))
insert: array_insert(array(1, 2, 3, 4), 5, 5) ;; array_insert(array(5, 4, 3, 2), -1, 1) ;; array_insert(array(1), -3, 9) ;; array_insert(array(1), NULL, 9) ;; array_insert(NULL, 1, 9) ;; array_insert(array(1), 2, NULL) ;; array_append(array(1), NULL) ;; array_append(NULL, 1) ;; array_prepend(array('b'), 'a') ;; array_append(array(1), 2.5)
insert_zero: array_insert(array(1), 0, 9)
slice: slice(array(1, 2, 3), 1, 0) ;; slice(array(1, 2, 3), -5, 2) ;; slice(array(1, 2, 3), 5, 2) ;; slice(array(1, 2, 3), 2, 10) ;; slice(NULL, 1, 1) ;; slice(array(1, 2, 3), NULL, 1)
slice_zero: slice(array(1), 0, 1)
slice_negative: slice(array(1), 1, -1)
sort: sort_array(array(2, NULL, 1)) ;; sort_array(array(2, NULL, 1), false) ;; array_sort(array(2, NULL, 1)) ;; sort_array(array('b', 'a', NULL)) ;; sort_array(array(struct(2, 'a'), struct(1, 'b'))) ;; sort_array(array(array(2), array(1))) ;; sort_array(array(double('NaN'), 1.0D)) ;; array_sort(array('bc', 'ab', 'dc'), (l, r) -> CASE WHEN l < r THEN -1 WHEN l > r THEN 1 ELSE 0 END) ;; array_sort(NULL) ;; sort_array(NULL)
ends: array_max(array(1, NULL)) ;; array_max(array()) ;; array_min(array(double('NaN'), 1.0D)) ;; array_max(array(NULL, NULL)) ;; array_max(NULL) ;; array_min(array('b', 'a')) ;; array_max(array(array(1), array(2)))
flatten: flatten(array(array(1), array())) ;; flatten(NULL) ;; flatten(array(array(1), NULL)) ;; flatten(array(array(array(1)))) ;; array_repeat('a', 0) ;; array_repeat(NULL, 2) ;; array_repeat('a', -1) ;; array_repeat('a', NULL) ;; array_join(array('a', NULL), '-') ;; array_join(array(1, 2), ',') ;; array_join(array(), ',') ;; array_join(array('a'), NULL) ;; array_join(array('a', NULL, 'b'), ',', NULL) ;; array_compact(array(NULL)) ;; array_size(NULL) ;; array_size(array())
get: get(array(1), -1) ;; get(NULL, 0) ;; get(array(1), NULL) ;; element_at(array(1, 2), -2) ;; try_element_at(array(1), 3) ;; element_at(array(1, NULL), 2) ;; element_at(NULL, 1) ;; size(map()) ;; cardinality(array()) ;; size(NULL) ;; reverse(array(1, NULL)) ;; reverse(NULL)
aggregate: aggregate(array(1, 2), 0.0D, (a, x) -> a + x) ;; aggregate(array(), 5, (a, x) -> a + x) ;; aggregate(NULL, 5, (a, x) -> a + x) ;; reduce(array('a', 'b'), '', (a, x) -> concat(a, x), a -> upper(a)) ;; aggregate(array(1, NULL), 0, (a, x) -> a + x) ;; aggregate(array(1, 2, 3), named_struct('s', 0, 'n', 0), (a, x) -> named_struct('s', a.s + x, 'n', a.n + 1), a -> a.s / a.n)
filter: filter(array(1, NULL, 3), x -> x > 1) ;; filter(array(1, 2), x -> NULL) ;; exists(array(), x -> true) ;; forall(array(), x -> false) ;; forall(array(1, NULL), x -> x > 0) ;; exists(array(1, NULL, 3), x -> x > 2) ;; transform(array(), x -> x) ;; transform(NULL, x -> x) ;; transform(array(array(1, 2)), x -> transform(x, y -> y * 2)) ;; filter(array(1, 2, 3), (x, i) -> i > 0)
named: named_struct('a', 1, 'b', array(1)) ;; struct(1, 'a') ;; struct() ;; named_struct('a', NULL)
""",
    "json_more": r"""
get: get_json_object('{"a":[{"b":1},{"b":2}]}', '$.a[*].b') ;; get_json_object('{"a":[1,2]}', '$.a[*]') ;; get_json_object('{"a":1.0}', '$.a') ;; get_json_object('{"a":"x\\ny"}', '$.a') ;; get_json_object('{"a": {"b" : [1, {"c": null}]}}', '$.a') ;; get_json_object('{"a":1}', '$') ;; get_json_object('[1,2]', '$[5]') ;; get_json_object(NULL, '$.a') ;; get_json_object('{"a":true}', '$.a') ;; get_json_object('{"b":1,"a":2}', '$') ;; get_json_object('{"a":[[1,2],[3]]}', '$.a[*][0]') ;; get_json_object('{"a b":1}', '$.a b') ;; get_json_object('{"a":{"b":"c"}}', '$.*') ;; get_json_object('{"a":1e10}', '$.a')
length: json_array_length('[1,[2,3],{"a":1}]') ;; json_array_length('[]') ;; json_array_length('[1,') ;; json_array_length(NULL) ;; json_object_keys('{"b":1,"a":{"c":2}}') ;; json_object_keys('{}') ;; json_object_keys('[1]') ;; json_object_keys('{"a":1') ;; json_object_keys(NULL) ;; json_object_keys('{"a":1,"a":2}')
schema: schema_of_json('{"a":1}') ;; schema_of_json('[1, 2.5]') ;; schema_of_json('"x"') ;; schema_of_json('null') ;; schema_of_json('{"a":null,"b":[]}') ;; schema_of_json('{"a":9223372036854775808}') ;; schema_of_json('{"a":[{"b":1},{"c":true}]}') ;; schema_of_json('{"a":01}', map('allowNumericLeadingZeros', 'true')) ;; schema_of_json('{"b c":1}')
to: to_json(named_struct('a', NULL)) ;; to_json(named_struct('a', NULL), map('ignoreNullFields', 'false')) ;; to_json(map('a', NULL)) ;; to_json(array(1, NULL)) ;; to_json(named_struct('a', array(1), 'b', map('k', 1.5D))) ;; to_json(named_struct('t', TIMESTAMP'2020-01-01 01:02:03.456')) ;; to_json(named_struct('t', DATE'2020-01-01'), map('dateFormat', 'dd/MM/yyyy')) ;; to_json(named_struct('b', X'4142')) ;; to_json(named_struct('d', double('NaN'))) ;; to_json(map(1, 2)) ;; to_json(named_struct('a', 'x"y\\z/\n')) ;; to_json(array(map('a', 1))) ;; to_json(map(named_struct('x', 1), 2))
from: from_json('{"a":1}', 'a STRING') ;; from_json('{"a":{"b":1}}', 'a STRING') ;; from_json('{"a":"1"}', 'a INT') ;; from_json('{"A":1}', 'a INT') ;; from_json('', 'a INT') ;; from_json(NULL, 'a INT') ;; from_json('{"a":1.5}', 'a INT') ;; from_json('{"a":[1,2]}', 'a ARRAY<INT>') ;; from_json('{"a":"2020-01-01"}', 'a DATE') ;; from_json('{"a":true}', 'a STRING') ;; from_json('{"a":1, "b":2}', 'STRUCT<b: INT>') ;; from_json('{"a": 1 , "b": [1, 2 ]}', 'a STRING, b STRING') ;; from_json('[{"a":1},{"a":2}]', 'ARRAY<STRUCT<a: INT>>') ;; from_json('{"a":1}', schema_of_json('{"a":1}')) ;; from_json('{"a":1}{"a":2}', 'a INT') ;; from_json('{"a":1.10}', 'a DECIMAL(10,2)')
""",
    "variant": r"""
parse: CAST(parse_json('{"a":1}') AS STRING) ;; variant_get(parse_json('{"a":[1,"x"]}'), '$.a[1]', 'string') ;; try_parse_json('{') ;; schema_of_variant(parse_json('{"a":1}')) ;; is_variant_null(parse_json('null'))
""",
    "xml": r"""
xpath: xpath('<a><b>b1</b><b>b2</b></a>', 'a/b/text()') ;; xpath_string('<a><b>b</b><c>cc</c></a>', 'a/c') ;; xpath_int('<a><b>1</b><b>2</b></a>', 'sum(a/b)') ;; xpath_boolean('<a><b>1</b></a>', 'a/b') ;; from_xml('<p><a>1</a><b>0.8</b></p>', 'a INT, b DOUBLE') ;; to_xml(named_struct('a', 1, 'b', 2)) ;; schema_of_xml('<p><a>1</a></p>')
""",
}

QUERIES = {
    "names": r"""
defaults: SELECT regexp_replace('a', 'b', 'c'), regexp_extract('ab', '(b)'), regexp_extract_all('ab', '(b)'), regexp_instr('a', 'b'), regexp_count('a', 'b'), split('a', 'b'), split_part('a', 'b', 1)
defaults2: SELECT round(1.5), bround(1.5), round(1.5, 1), ceil(1.5), floor(1.5), ceil(1.5, 1), log(2), conv('1', 2, 3), hex(1)
defaults3: SELECT lpad('a', 2), rpad('a', 2), locate('a', 'b'), position('a', 'b'), substring('a', 1), substr('a', 1, 2), overlay('a', 'b', 1), ltrim('a'), rtrim('a'), trim('a'), btrim('a'), left('a', 1), right('a', 1)
defaults4: SELECT from_unixtime(0), unix_timestamp('2020-01-01 00:00:00'), to_date('2020-01-01'), to_timestamp('2020-01-01'), to_date('2020', 'yyyy'), date_format(DATE'2020-01-01', 'y'), months_between('2020-01-01', '2020-01-01'), to_unix_timestamp('2020-01-01 00:00:00'), date_trunc('DAY', TIMESTAMP'2020-01-01 00:00:00'), trunc(DATE'2020-01-01', 'MM')
defaults5: SELECT sort_array(array(1)), array_sort(array(1)), array_join(array('a'), ','), str_to_map('a'), sentences('a'), mask('a'), levenshtein('a', 'b'), sequence(1, 2), slice(array(1), 1, 1), flatten(array(array(1))), arrays_zip(array(1), array(2)), map_from_entries(array(struct(1, 2)))
defaults6: SELECT rand(1), randn(1), monotonically_increasing_id(), spark_partition_id(), uuid(1), shuffle(array(1), 1), input_file_name(), randstr(1, 1), uniform(1, 2, 3)
defaults7: SELECT aes_decrypt(NULL, 'a'), to_binary('61'), try_to_binary('61'), to_csv(struct(1)), from_csv('1', 'a INT'), schema_of_csv('1'), to_json(struct(1)), from_json('{}', 'a INT'), get_json_object('{}', '$'), parse_url('http://a', 'HOST'), url_encode('a'), encode('a', 'utf-8'), decode(X'61', 'utf-8'), sha2('a', 256), hash(1), xxhash64(1), nvl(1, 2), nvl2(1, 2, 3), ifnull(1, 2), nullif(1, 2), typeof(1)
defaults8: SELECT width_bucket(1, 0, 2, 3), format_number(1, 2), format_string('a'), make_date(2020, 1, 1), make_timestamp(2020, 1, 1, 0, 0, 0), date_add(DATE'2020-01-01', 1), dateadd(DATE'2020-01-01', 1), date_part('y', DATE'2020-01-01'), extract(YEAR FROM DATE'2020-01-01'), year(DATE'2020-01-01'), from_utc_timestamp(TIMESTAMP'2020-01-01 00:00:00', 'UTC'), convert_timezone('UTC', TIMESTAMP_NTZ'2020-01-01 00:00:00'), add_months(DATE'2020-01-01', 1), last_day(DATE'2020-01-01'), next_day(DATE'2020-01-01', 'MO'), datediff(DATE'2020-01-01', DATE'2020-01-01'), timestamp_seconds(1), unix_date(DATE'2020-01-01')
defaults9: SELECT power(1, 2), pow(1, 2), sign(1), signum(1), ln(1), log10(1), mod(1, 2), pmod(1, 2), abs(-1), greatest(1, 2), shiftleft(1, 2), bit_count(1), bit_get(1, 0), negative(1), positive(1), pi(), e(), factorial(1), rint(1), isnan(1), nanvl(1, 2), try_add(1, 2), try_divide(1, 2), try_element_at(array(1), 1), element_at(array(1), 1), get(array(1), 0), size(array(1)), cardinality(array(1)), array_contains(array(1), 1), array_position(array(1), 1), array_repeat(1, 2), concat_ws(',', 'a'), char_length('a'), length('a'), ucase('a'), lcase('a'), instr('a', 'b'), current_user() IS NULL
""",
    "random": r"""
rand_range: SELECT id, rand(7) AS r, randn(7) AS n FROM range(0, 5, 1, 1)
rand_values: SELECT i, rand(1) AS r FROM nums
rand_order: SELECT id FROM range(0, 5, 1, 1) ORDER BY rand(3)
rand_where: SELECT id FROM range(0, 20, 1, 1) WHERE rand(5) < 0.3
rand_agg: SELECT count(*) AS n, sum(rand(2)) AS s FROM range(0, 10, 1, 1)
rand_group: SELECT CAST(rand(2) * 3 AS INT) AS g, count(*) AS n FROM range(0, 10, 1, 1) GROUP BY 1
rand_subquery: SELECT r, r + 1 AS s FROM (SELECT rand(9) AS r FROM range(0, 3, 1, 1))
rand_filter_above: SELECT * FROM (SELECT id, rand(9) AS r FROM range(0, 10, 1, 1)) WHERE id > 5
rand_columns: SELECT rand(1) AS a, rand(1) AS b, rand(2) AS c FROM range(0, 2, 1, 1)
ids: SELECT monotonically_increasing_id() AS m, spark_partition_id() AS p, id FROM range(0, 5, 1, 1)
ids_filter: SELECT monotonically_increasing_id() AS m, id FROM range(0, 10, 1, 1) WHERE id % 2 = 0
ids_above: SELECT * FROM (SELECT monotonically_increasing_id() AS m, id FROM range(0, 10, 1, 1)) WHERE id > 6
ids_where: SELECT id FROM range(0, 5, 1, 1) WHERE monotonically_increasing_id() < 2
ids_sorted: SELECT monotonically_increasing_id() AS m, id FROM (SELECT id FROM range(0, 5, 1, 1) ORDER BY id DESC)
ids_group: SELECT spark_partition_id() AS p, count(*) AS n FROM range(0, 5, 1, 1) GROUP BY spark_partition_id()
ids_order: SELECT id FROM range(0, 5, 1, 1) ORDER BY monotonically_increasing_id() DESC
ids_limit: SELECT monotonically_increasing_id() AS m FROM (SELECT id FROM range(0, 9, 1, 1) LIMIT 3)
ids_union: SELECT count(DISTINCT m) AS n FROM (SELECT monotonically_increasing_id() AS m FROM (SELECT id FROM range(0, 3, 1, 1) UNION ALL SELECT id FROM range(0, 4, 1, 1)))
ids_join: SELECT count(DISTINCT m) AS n, count(*) AS c FROM (SELECT monotonically_increasing_id() AS m FROM emp JOIN dept USING (dept))
ids_distinct: SELECT count(DISTINCT m) AS n, count(DISTINCT m >> 33) >= 1 AS p FROM (SELECT monotonically_increasing_id() AS m FROM (SELECT DISTINCT id % 50 AS k FROM range(0, 1000, 1, 4)))
uuid_range: SELECT id, uuid(3) AS u FROM range(0, 2, 1, 1)
shuffle_range: SELECT id, shuffle(sequence(0, id), 11) AS s FROM range(0, 4, 1, 1)
having: SELECT k, max(r) > 0 AS x FROM (SELECT id % 2 AS k, rand(4) AS r FROM range(0, 6, 1, 1)) GROUP BY k HAVING max(r) > 0
window: SELECT id, row_number() OVER (ORDER BY rand(3)) AS r FROM range(0, 5, 1, 1)
join_condition: SELECT * FROM emp e JOIN dept d ON e.dept = d.dept AND rand(1) > 2
sample: SELECT count(*) <= 100 AS x FROM range(0, 100, 1, 1) WHERE rand() < 0.5
input_file: SELECT input_file_name() AS f FROM emp WHERE id < 3
""",
    "text": r"""
csv_columns: SELECT k, from_csv(s, 'a STRING, b STRING') AS c FROM strs
csv_to: SELECT id, to_csv(struct(id, name, pay, hired, active)) AS c FROM emp
crypt: SELECT k, CAST(aes_decrypt(aes_encrypt(s, 'abcdefghijklmnop'), 'abcdefghijklmnop') AS STRING) AS c, hex(aes_encrypt(s, 'abcdefghijklmnop', 'ECB')) AS e FROM strs
masked: SELECT k, mask(s) AS a, soundex(s) AS b, levenshtein(s, 'Hello') AS c, levenshtein(s, 'Hello', 3) AS d FROM strs
numbers: SELECT i, to_char(x, '999.99S') AS a, conv(CAST(i AS STRING), 10, 16) AS b, width_bucket(d, 0, 10, 5) AS c FROM nums
hashes: SELECT k, md5(s) AS a, sha1(s) AS b, sha2(s, 256) AS c, xxhash64(s) AS d, hash(s, k) AS e FROM strs
urls: SELECT k, url_encode(s) AS a, try_url_decode(s) AS b, parse_url('http://h/?q=' || k, 'QUERY', 'q') AS c FROM strs
""",
}


def f():
    from pyspark.sql import functions

    return functions


def random_columns(spark):
    return spark.range(0, 5, 1, 1).select("id", f().rand(7).alias("r"), f().randn(7).alias("n"), f().monotonically_increasing_id().alias("m"), f().spark_partition_id().alias("p"))


def random_names(spark):
    return spark.range(0, 2, 1, 1).select(f().rand(7), f().monotonically_increasing_id(), f().spark_partition_id(), f().input_file_name())


def random_with_column(spark):
    return spark.range(0, 4, 1, 1).withColumn("r", f().rand(seed=1)).filter(f().col("id") > 1).withColumn("s", f().col("r") + 1)


def random_unseeded(spark):
    return spark.range(0, 6, 1, 1).select((f().rand() < 1).alias("a"), (f().length(f().uuid()) == 36).alias("b"), f().array_sort(f().shuffle(f().array(f().lit(2), f().lit(1)))).alias("c"))


def sample(spark):
    return spark.range(0, 100, 1, 1).sample(0.2, seed=3)


def sample_bounds(spark):
    return spark.range(0, 50, 1, 1).randomSplit([1.0, 2.0], seed=5)[1]


def sample_by(spark):
    return spark.range(0, 60, 1, 1).select((f().col("id") % 3).alias("k"), "id").sampleBy("k", {0: 0.1, 1: 0.5}, seed=0)


def csv_functions(spark):
    lines = spark.createDataFrame([("1,a",), ("x,b",), (None,)], "v STRING")
    return lines.select(f().from_csv("v", "a INT, b STRING").alias("p"), f().from_csv("v", f().schema_of_csv(f().lit("1,a"))).alias("q"), f().to_csv(f().struct("v")).alias("t"))


def csv_options(spark):
    lines = spark.createDataFrame([("1|26/08/2015",)], "v STRING")
    return lines.select(f().from_csv("v", "a INT, d DATE", {"sep": "|", "dateFormat": "dd/MM/yyyy"}).alias("p"), f().to_csv(f().struct(f().lit(1), f().lit("b")), {"sep": ";"}).alias("t"))


def json_schema_by_example(spark):
    lines = spark.createDataFrame([('{"a": 1}',)], "v STRING")
    return lines.select(f().from_json("v", f().schema_of_json(f().lit('{"a": 0}'))).alias("p"))


def ciphers(spark):
    rows = spark.createDataFrame([("Spark", "abcdefghijklmnop12345678ABCDEFGH")], ["t", "k"])
    sealed = f().aes_encrypt("t", "k", f().lit("CBC"), f().lit("PKCS"), f().unhex(f().lit("00" * 16)))
    return rows.select(f().base64(sealed).alias("c"), f().aes_decrypt(sealed, "k", f().lit("CBC")).cast("string").alias("p"), f().try_aes_decrypt(f().unhex(f().lit("00")), "k").alias("n"), f().sha2("t", 256).alias("h"), f().md5("t").alias("m"), f().xxhash64("t").alias("x"))


def text_functions(spark):
    rows = spark.createDataFrame([("kitten", "79927398713", "1,234")], ["t", "n", "x"])
    return rows.select(f().levenshtein("t", f().lit("sitting")).alias("a"), f().levenshtein("t", f().lit("sitting"), 2).alias("b"), f().soundex("t").alias("c"), f().mask("n").alias("d"), f().call_function("luhn_check", f().col("n")).alias("e"), f().to_number("x", f().lit("9,999")).alias("g"), f().try_to_number("t", f().lit("9")).alias("h"), f().conv(f().lit("ff"), 16, 10).alias("i"), f().sentences("t").alias("j"), f().str_to_map(f().lit("a:1")).alias("k"), f().url_encode("x").alias("l"), f().to_binary(f().lit("61")).alias("o"), f().try_to_binary(f().lit("zz")).alias("p"), f().validate_utf8("t").alias("q"), f().regexp_replace("t", "t(?=e)", "T").alias("r"))


def time_functions(spark):
    rows = spark.createDataFrame([(2024, 2)], ["y", "m"])
    return rows.select(f().make_date("y", "m", f().lit(29)).alias("a"), f().make_dt_interval(f().lit(1), f().lit(2)).alias("b"), f().convert_timezone(f().lit("UTC"), f().lit("Asia/Tokyo"), f().lit("2024-01-01 00:00:00").cast("timestamp_ntz")).alias("c"), f().to_unix_timestamp(f().lit("2024-01-01"), f().lit("yyyy-MM-dd")).alias("d"), f().timestamp_millis(f().lit(1500)).alias("e"), f().unix_micros(f().lit("2024-01-01 00:00:00").cast("timestamp")).alias("g"), f().try_to_timestamp(f().lit("x")).alias("h"), f().sequence(f().lit("2024-01-01").cast("date"), f().lit("2024-03-01").cast("date"), f().expr("interval 1 month")).alias("i"))


def map_functions(spark):
    rows = spark.sql("SELECT map('a', 1, 'b', 2) AS m, map('a', 3) AS n, array(1, 2) AS x, array('u') AS y")
    return rows.select(f().map_zip_with("m", "n", lambda k, a, b: a + f().coalesce(b, f().lit(0))).alias("a"), f().transform_keys("m", lambda k, v: f().upper(k)).alias("b"), f().transform_values("m", lambda k, v: v * 10).alias("c"), f().arrays_zip("x", "y").alias("d"), f().zip_with("x", "x", lambda a, b: a * b).alias("e"), f().map_from_entries(f().map_entries("m")).alias("g"))


def users(spark):
    return spark.range(1).select((f().current_user() == f().session_user()).alias("a"), (f().user() == f().current_user()).alias("b"))


# DataFrame programs: `frame.<name>`.
FRAMES = {
    function.__name__: function
    for function in (
        random_columns,
        random_names,
        random_with_column,
        random_unseeded,
        sample,
        sample_bounds,
        sample_by,
        csv_functions,
        csv_options,
        json_schema_by_example,
        ciphers,
        text_functions,
        time_functions,
        map_functions,
        users,
    )
}
