// Several right-hand sides side by side, so that a pass over a matrix serves all of them.
//
// Kernels are written over the element type of their vectors: a number, or `Lanes` of numbers that meet
// the same matrix entries. Sums are kept in double, one for each lane.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace torch_sla::multigrid {

template <class V, int K>
struct alignas(16) Lanes {
  V v[K];

  Lanes() = default;
  Lanes(V s) {
    for (int k = 0; k < K; ++k) v[k] = s;
  }
  template <class W>
  explicit Lanes(const Lanes<W, K>& o) {
    for (int k = 0; k < K; ++k) v[k] = V(o.v[k]);
  }
  V& operator[](int k) { return v[k]; }
  V operator[](int k) const { return v[k]; }

  Lanes& operator+=(const Lanes& o) {
    for (int k = 0; k < K; ++k) v[k] += o.v[k];
    return *this;
  }
  Lanes& operator-=(const Lanes& o) {
    for (int k = 0; k < K; ++k) v[k] -= o.v[k];
    return *this;
  }
  friend Lanes operator+(Lanes a, const Lanes& b) { return a += b; }
  friend Lanes operator-(Lanes a, const Lanes& b) { return a -= b; }
  friend Lanes operator-(const Lanes& a) { return Lanes(V(0)) - a; }
  friend Lanes operator*(const Lanes& a, const Lanes& b) {
    Lanes out;
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] * b.v[k];
    return out;
  }
  friend Lanes operator*(V a, const Lanes& b) {
    Lanes out;
    for (int k = 0; k < K; ++k) out.v[k] = a * b.v[k];
    return out;
  }
  friend Lanes operator*(const Lanes& a, V b) { return b * a; }
};

// The element type that sums of X are kept in, and X as one of those.
template <class X>
struct Wide {
  using type = double;
};
template <class V, int K>
struct Wide<Lanes<V, K>> {
  using type = Lanes<double, K>;
};
template <class X>
using Sum = typename Wide<X>::type;
template <class X>
inline Sum<X> wide(const X& x) {
  return Sum<X>(x);
}

template <class X>
constexpr bool is_number = std::is_floating_point_v<X>;

}  // namespace torch_sla::multigrid
