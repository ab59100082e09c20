// Small blocks times vectors and blocks, with the numbers of a block taken side by side.
//
// Row-major blocks are cut into packs of the processor, which start at any column: a factor whose entries meet
// those of a row is turned into as many packs as there are different starts. Every index is a constant, which
// keeps sums in registers.
#pragma once

#include <cstdint>
#include <numeric>
#include <type_traits>
#include <utility>

#include "lanes.hpp"

namespace torch_sla::multigrid {

#if defined(__GNUC__)
constexpr bool kPacked = true;
#else
constexpr bool kPacked = false;
#endif

// How a row-major block [rows, Columns] is cut.
template <int Size, int Columns, class V>
struct Cut {
  using Part = typename Pack<V>::type;
  static constexpr int width = Pack<V>::width, packs = Size / width, packed = packs * width, rest = Size - packed;
  static constexpr int turns = Columns / std::gcd(Columns, width);  // different starts of packs
  using Packs = std::make_integer_sequence<int, packs>;
  using Rest = std::make_integer_sequence<int, rest>;
  using Turns = std::make_integer_sequence<int, turns>;
  using Lane = std::make_integer_sequence<int, width>;

  // x[First], x[First + 1], ..., from the start again after x[Columns - 1]
  template <int First, int... L>
  static Part from(const V* x, std::integer_sequence<int, L...>) {
    if constexpr (First + width <= Columns) return Pack<V>::load(x + First);
    else return Part{x[(First + L) % Columns]...};
  }
  // What the packs of a block meet of x [Columns]; pack k meets number k % turns.
  template <int... T>
  static void turn(const V* x, Part* out, std::integer_sequence<int, T...>) {
    ((out[T] = from<T * width % Columns>(x, Lane())), ...);
  }
  // By number: told to copy a pack, the compiler keeps it in memory while it is summed.
  template <int... L>
  static void spread(const Part& pack, V* to, std::integer_sequence<int, L...>) {
    ((to[L] = pack[L]), ...);
  }
};

// acc -= sum of blocks [B, B] times parts of x, B > 1.
template <int B, class V>
struct PackedRow {
  using C = Cut<B * B, B, V>;
  using Part = typename C::Part;

  // Over `count` blocks: val[s] x[col[s]].
  template <class I>
  static void subtract(const V* val, const I* col, std::int64_t count, const V* x, V* acc) {
    subtract(val, col, count, x, acc, typename C::Packs(), typename C::Rest());
  }

 private:
  template <class I, int... K, int... R>
  static void subtract(const V* val, const I* col, std::int64_t count, const V* x, V* acc,
                       std::integer_sequence<int, K...>, std::integer_sequence<int, R...>) {
    Part sum[C::packs] = {};
    [[maybe_unused]] V rest[C::rest + 1] = {};
    for (const I* end = col + count; col < end; ++col, val += B * B) {
      const V* xj = x + std::int64_t(*col) * B;
      prefetch(val);
      Part turned[C::turns];
      C::turn(xj, turned, typename C::Turns());
      ((sum[K] += Pack<V>::load(val + K * C::width) * turned[K % C::turns]), ...);
      ((rest[R] += val[C::packed + R] * xj[(C::packed + R) % B]), ...);
    }
    V flat[B * B];
    (C::spread(sum[K], flat + K * C::width, typename C::Lane()), ...);
    ((flat[C::packed + R] = rest[R]), ...);
    for (int r = 0; r < B; ++r) {
      V total = flat[r * B];
      for (int c = 1; c < B; ++c) total += flat[r * B + c];
      acc[r] -= total;
    }
  }
};

// Z [M, K] += X [M, N] Y [N, K] for one X and many Y; X [N, M] transposed where `Turned`.
template <int M, int N, int K, bool Turned, class V>
class PackedProduct {
  using C = Cut<M * K, K, V>;
  using Part = typename C::Part;

 public:
  explicit PackedProduct(const V* X) : x_(X) {
    for (int q = 0; q < N; ++q) set(q, typename C::Packs());
  }
  void add(const V* Y, V* Z) const { add(Y, Z, typename C::Packs(), typename C::Rest()); }

 private:
  V at(int r, int q) const { return Turned ? x_[q * M + r] : x_[r * N + q]; }
  template <int... P>
  void set(int q, std::integer_sequence<int, P...>) {
    ((pack_[q][P] = rows_of<P>(q, typename C::Lane())), ...);
  }
  template <int P, int... L>
  Part rows_of(int q, std::integer_sequence<int, L...>) const {
    return Part{at((P * C::width + L) / K, q)...};
  }
  template <int... P, int... R>
  void add(const V* Y, V* Z, std::integer_sequence<int, P...>, std::integer_sequence<int, R...>) const {
    Part sum[C::packs + 1] = {Pack<V>::load(Z + P * C::width)...};
    [[maybe_unused]] V rest[C::rest + 1] = {Z[C::packed + R]...};
    for (int q = 0; q < N; ++q) {
      Part turned[C::turns];
      C::turn(Y + q * K, turned, typename C::Turns());
      ((sum[P] += pack_[q][P] * turned[P % C::turns]), ...);
      ((rest[R] += at((C::packed + R) / K, q) * Y[q * K + (C::packed + R) % K]), ...);
    }
    (Pack<V>::store(Z + P * C::width, sum[P]), ...);
    ((Z[C::packed + R] = rest[R]), ...);
  }

  const V* x_;
  Part pack_[N][C::packs];
};

// C += X Y for small row-major blocks [m, n] and [n, k]; C += X^T Y for X [n, m] where `turned`.
template <int M, int N, int K, bool Turned = false, class V>
inline void multiply_add(const V* X, const V* Y, V* C, int m, int n, int k) {
  if constexpr (M == 1 && N == 1 && K == 1) {
    C[0] += X[0] * Y[0];
    return;
  }
  const int mm = M ? M : m, nn = N ? N : n, kk = K ? K : k;
  for (int r = 0; r < mm; ++r)
    for (int q = 0; q < nn; ++q) {
      const V x = Turned ? X[q * mm + r] : X[r * nn + q];
      for (int c = 0; c < kk; ++c) C[r * kk + c] += x * Y[q * kk + c];
    }
}

// The same for one X and many Y.
template <int M, int N, int K, bool Turned, class V>
class BlockProduct {
 public:
  BlockProduct(const V* X, int m, int n, int k) : X_(X), m_(m), n_(n), k_(k) {}
  void add(const V* Y, V* C) const { multiply_add<M, N, K, Turned>(X_, Y, C, m_, n_, k_); }

 private:
  const V* X_;
  int m_, n_, k_;
};
template <int M, int N, int K, bool Turned, class V>
auto block_product(const V* X, [[maybe_unused]] int m, [[maybe_unused]] int n, [[maybe_unused]] int k) {
  if constexpr (kPacked && M * N * K > 1) return PackedProduct<M, N, K, Turned, V>(X);
  else return BlockProduct<M, N, K, Turned, V>(X, m, n, k);
}

}  // namespace torch_sla::multigrid
