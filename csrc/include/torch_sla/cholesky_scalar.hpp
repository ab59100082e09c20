// The four value types in one vocabulary: conjugate, magnitude, products without the checks for
// infinities that std::complex makes.
#pragma once

#include <cmath>
#include <complex>
#include <type_traits>

namespace torch_sla {

template <class T>
struct RealOf {
  using type = T;
};
template <class R>
struct RealOf<std::complex<R>> {
  using type = R;
};
template <class T>
using Real = typename RealOf<T>::type;

template <class T>
constexpr bool is_complex = !std::is_same_v<T, Real<T>>;

template <class T>
inline T conjugate(T x) {
  if constexpr (is_complex<T>)
    return std::conj(x);
  else
    return x;
}

template <class T>
inline T product(T a, T b) {
  if constexpr (is_complex<T>)
    return T(a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real());
  else
    return a * b;
}

template <class T>
inline Real<T> real_part(T x) {
  if constexpr (is_complex<T>)
    return x.real();
  else
    return x;
}

// |re| + |im|: within a factor sqrt(2) of the modulus, without the root.
template <class T>
inline Real<T> magnitude(T x) {
  if constexpr (is_complex<T>)
    return std::abs(x.real()) + std::abs(x.imag());
  else
    return std::abs(x);
}

template <class T>
inline bool is_finite(T x) {
  return std::isfinite(magnitude(x));
}

}  // namespace torch_sla
