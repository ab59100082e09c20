// A 128-bit content hash of raw bytes, at memory speed. It answers "are these the same numbers in
// the same order?"; it is no defence against an adversary, and its values are not a file format.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "torch_sla/parallel.hpp"

namespace torch_sla {

struct Digest {
  std::uint64_t low, high;
};

namespace detail {

inline std::uint64_t rotate(std::uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

// Every input bit reaches every output bit: two rounds of xor-shift and odd multiplication.
inline std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 32)) * 0xa24baed4963ee407ULL;
  x = (x ^ (x >> 29)) * 0x9fb21c651e98df25ULL;
  return x ^ (x >> 32);
}

// Eight independent lanes hide the latency of the multiplication. For a fixed lane state the step is
// a bijection of the word, so a single changed word always changes its lane.
inline Digest digest_chunk(const unsigned char* bytes, std::int64_t size, std::uint64_t seed) {
  constexpr int lanes = 8;
  constexpr std::uint64_t factor = 0xd6e8feb86659fd93ULL;
  std::array<std::uint64_t, lanes> state;
  for (int lane = 0; lane < lanes; ++lane) state[lane] = mix(seed + 0x9e3779b97f4a7c15ULL * (lane + 1));
  const auto absorb = [&](const unsigned char* block) {
    std::uint64_t word[lanes];
    std::memcpy(word, block, sizeof word);
    for (int lane = 0; lane < lanes; ++lane)
      state[lane] = rotate((state[lane] ^ word[lane]) * factor, 29);
  };
  constexpr std::int64_t block = lanes * sizeof(std::uint64_t);
  std::int64_t at = 0;
  for (; at + block <= size; at += block) absorb(bytes + at);
  if (at < size) {
    unsigned char rest[block] = {};
    std::memcpy(rest, bytes + at, static_cast<std::size_t>(size - at));
    absorb(rest);
  }
  Digest out{mix(seed ^ static_cast<std::uint64_t>(size)), mix(~seed + static_cast<std::uint64_t>(size))};
  for (int lane = 0; lane < lanes; ++lane) {
    out.low = mix(out.low ^ state[lane]);
    out.high = mix((out.high + state[lane]) * factor);
  }
  return out;
}

}  // namespace detail

// Chunks of fixed length are hashed apart and their digests hashed in order, so the answer does not
// depend on the number of threads.
inline Digest fingerprint(const void* data, std::int64_t size, int threads) {
  constexpr std::int64_t chunk = std::int64_t(1) << 18;
  const auto* bytes = static_cast<const unsigned char*>(data);
  const std::int64_t chunks = (size + chunk - 1) / chunk;
  std::vector<Digest> digests(chunks);
  parallel_for(chunks, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t length = i + 1 < chunks ? chunk : size - i * chunk;
      digests[i] = detail::digest_chunk(bytes + i * chunk, length, 0x2545f4914f6cdd1dULL);
    }
  });
  return detail::digest_chunk(reinterpret_cast<const unsigned char*>(digests.data()),
                              chunks * static_cast<std::int64_t>(sizeof(Digest)),
                              static_cast<std::uint64_t>(size));
}

}  // namespace torch_sla
