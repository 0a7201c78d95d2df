-- sha256(text) -> 64 hex digits (FIPS 180-4). Redis gives its scripts only SHA-1, and the audit trail must be written in
-- the same step as what it tells of; the tests compare with hashlib. About 0.1 ms for each 64 bytes.
local function sha256(text)
  local band, bxor, bnot, ror, shr, tobit = bit.band, bit.bxor, bit.bnot, bit.ror, bit.rshift, bit.tobit
  local k, prime = {}, 2  -- of the first 64 primes the first 32 bits after the point of the cube root
  while #k < 64 do
    local is_prime = true
    for divisor = 2, math.sqrt(prime) do is_prime = is_prime and prime % divisor ~= 0 end
    if is_prime then k[#k + 1] = tobit(math.floor(prime ^ (1 / 3) % 1 * 2 ^ 32)) end
    prime = prime + 1
  end
  local hash = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
  local padded = text .. '\128' .. string.rep('\0', (55 - #text) % 64) .. struct.pack('>I8', #text * 8)
  for start = 1, #padded, 64 do
    local w = {struct.unpack('>' .. string.rep('I4', 16), padded, start)}
    for i = 17, 64 do
      local s0 = bxor(ror(w[i - 15], 7), ror(w[i - 15], 18), shr(w[i - 15], 3))
      local s1 = bxor(ror(w[i - 2], 17), ror(w[i - 2], 19), shr(w[i - 2], 10))
      w[i] = tobit(w[i - 16] + s0 + w[i - 7] + s1)
    end
    local a, b, c, d, e, f, g, h = unpack(hash)
    for i = 1, 64 do
      local s1, choice = bxor(ror(e, 6), ror(e, 11), ror(e, 25)), bxor(band(e, f), band(bnot(e), g))
      local t1 = h + s1 + choice + k[i] + w[i]
      local s0, majority = bxor(ror(a, 2), ror(a, 13), ror(a, 22)), bxor(band(a, b), band(a, c), band(b, c))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + s0 + majority)
    end
    local added = {a, b, c, d, e, f, g, h}
    for i = 1, 8 do hash[i] = tobit(hash[i] + added[i]) end
  end
  for i = 1, 8 do hash[i] = bit.tohex(hash[i]) end
  return table.concat(hash)
end
