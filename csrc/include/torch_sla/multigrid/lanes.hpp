// Several right-hand sides side by side, so that a pass over a matrix serves all of them.
//
// Kernels are written over the element type of their vectors: a number, or `Lanes` of numbers that meet
// the same matrix entries. Sums are kept in double, one for each lane.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../prefetch.hpp"

namespace torch_sla::multigrid {

// Numbers that the processor works on at once, told to the compiler: an array of them it takes apart and puts
// together again around every operation.
template <class V>
struct Pack {
#if defined(__GNUC__)
  typedef V type __attribute__((vector_size(16)));
  static constexpr int width = 16 / sizeof(V);
#else
  using type = V;
  static constexpr int width = 1;
#endif
  static type load(const V* from) {
    type out;
    std::memcpy(&out, from, sizeof out);
    return out;
  }
  static void store(V* to, const type& from) { std::memcpy(to, &from, sizeof from); }
};

template <class V, int K>
struct Lanes {
  using Part = typename Pack<V>::type;
  static constexpr int parts = K / Pack<V>::width;
  static_assert(parts * Pack<V>::width == K, "lanes fill whole packs");
  Part p[parts];

  Lanes() = default;
  Lanes(V s) {
    for (int i = 0; i < parts; ++i) p[i] = s - Part{};
  }
  template <class W>
  explicit Lanes(const Lanes<W, K>& o) {
#if defined(__GNUC__)
    typedef W From __attribute__((vector_size(K * sizeof(W))));
    typedef V To __attribute__((vector_size(K * sizeof(V))));
    From from;
    std::memcpy(&from, o.p, sizeof from);
    const To to = __builtin_convertvector(from, To);
    std::memcpy(p, &to, sizeof to);
#else
    for (int k = 0; k < K; ++k) p[k] = V(o.p[k]);
#endif
  }
  V& operator[](int k) { return reinterpret_cast<V*>(p)[k]; }
  V operator[](int k) const { return reinterpret_cast<const V*>(p)[k]; }

  Lanes& operator+=(const Lanes& o) {
    for (int i = 0; i < parts; ++i) p[i] += o.p[i];
    return *this;
  }
  Lanes& operator-=(const Lanes& o) {
    for (int i = 0; i < parts; ++i) p[i] -= o.p[i];
    return *this;
  }
  Lanes& operator*=(const Lanes& o) {
    for (int i = 0; i < parts; ++i) p[i] *= o.p[i];
    return *this;
  }
  friend Lanes operator+(Lanes a, const Lanes& b) { return a += b; }
  friend Lanes operator-(Lanes a, const Lanes& b) { return a -= b; }
  friend Lanes operator-(const Lanes& a) { return Lanes(V(0)) - a; }
  friend Lanes operator*(Lanes a, const Lanes& b) { return a *= b; }
  friend Lanes operator*(V a, const Lanes& b) { return Lanes(a) *= b; }
  friend Lanes operator*(const Lanes& a, V b) { return Lanes(b) *= a; }
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

// What a loop over elements X takes at once: packs of numbers with packs of coefficients, or one element of
// lanes with one coefficient.
template <class X>
struct Piece : Pack<X> {
  using typename Pack<X>::type;
  static type coefficients(const X* from) { return Pack<X>::load(from); }
  static double sum(const type& p) {
    double out = 0.0;
    for (int k = 0; k < Pack<X>::width; ++k) out += double(reinterpret_cast<const X*>(&p)[k]);
    return out;
  }
};
template <class V, int K>
struct Piece<Lanes<V, K>> {
  using type = Lanes<V, K>;
  static constexpr int width = 1;
  static type load(const type* from) { return *from; }
  static void store(type* to, const type& from) { *to = from; }
  static V coefficients(const V* from) { return *from; }
  static Lanes<double, K> sum(const type& p) { return Lanes<double, K>(p); }
};

}  // namespace torch_sla::multigrid
