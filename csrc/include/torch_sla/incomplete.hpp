// Incomplete factorisations without fill-in, and the triangular solves that apply them.
//
// Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., section 10.3. All matrices are square
// CSR with columns sorted and unique in each row, and `diagonal[i]`, the slot of entry (i, i), is
// present. Factors overwrite the values on the same pattern.
#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

#include "torch_sla/parallel.hpp"

namespace torch_sla {

template <class T>
inline T conjugate(const T& x) {
  return x;
}
template <class R>
inline std::complex<R> conjugate(const std::complex<R>& x) {
  return std::conj(x);
}

// ILU(0): A ~ (I + L) U with L strictly below and U on and above the diagonal of the pattern.
// Returns the first row whose pivot is zero or not finite, or -1.
template <class Index, class T>
std::int64_t ilu0(const Index* crow, const Index* ccol, const Index* diagonal, T* values,
                  std::int64_t n) {
  std::vector<std::int64_t> slot(n, -1);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) slot[ccol[e]] = e;
    for (std::int64_t e = crow[i]; e < diagonal[i]; ++e) {
      const std::int64_t k = ccol[e];
      const T factor = values[e] /= values[diagonal[k]];
      for (std::int64_t f = diagonal[k] + 1; f < crow[k + 1]; ++f) {
        const std::int64_t here = slot[ccol[f]];
        if (here >= 0) values[here] -= factor * values[f];
      }
    }
    for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) slot[ccol[e]] = -1;
    const auto size = std::abs(values[diagonal[i]]);
    if (!(size > 0) || !std::isfinite(size)) return i;
  }
  return -1;
}

// IC(0): A ~ L Lᴴ for Hermitian A; L overwrites the part on and below the diagonal, the rest is
// left alone. `shift` adds that multiple of the diagonal to itself first (Manteuffel, Math. Comp.
// 34, 1980, pages 473-497). Returns the first row whose pivot is not positive, or -1.
template <class Index, class T>
std::int64_t ichol0(const Index* crow, const Index* ccol, const Index* diagonal, T* values,
                    std::int64_t n, double shift) {
  using Real = decltype(std::real(T()));
  for (std::int64_t i = 0; i < n; ++i) {
    Real pivot = std::real(values[diagonal[i]]) * static_cast<Real>(1 + shift);
    for (std::int64_t e = crow[i]; e < diagonal[i]; ++e) {
      const std::int64_t k = ccol[e];
      T sum = values[e];
      // Rows i and k, both sorted, before column k.
      std::int64_t a = crow[i], b = crow[k];
      while (a < e && b < diagonal[k]) {
        if (ccol[a] < ccol[b]) {
          ++a;
        } else if (ccol[b] < ccol[a]) {
          ++b;
        } else {
          sum -= values[a++] * conjugate(values[b++]);
        }
      }
      values[e] = sum / std::real(values[diagonal[k]]);
      pivot -= std::norm(values[e]);
    }
    if (!(pivot > 0) || !std::isfinite(pivot)) return i;
    values[diagonal[i]] = std::sqrt(pivot);
  }
  return -1;
}

// Solves op(D + S) x = b in place for x [n, k], with S the part of a CSR matrix strictly below
// (or above) its diagonal and 1/D given, all ones when null. op is the identity, or, with
// `adjoint`, the conjugate transpose (D is conjugated too). Columns are cut between threads.
template <class Index, class T>
void triangular_solve(const Index* crow, const Index* ccol, const Index* diagonal, const T* values,
                      const T* inverse, T* x, std::int64_t n, std::int64_t k, bool upper,
                      bool adjoint, int threads) {
  // Rows are taken downwards when each needs those before it.
  const bool forward = upper == adjoint;
  parallel_for(k, threads, [&](std::int64_t c0, std::int64_t c1, int) {
    for (std::int64_t step = 0; step < n; ++step) {
      const std::int64_t i = forward ? step : n - 1 - step;
      const std::int64_t first = upper ? diagonal[i] + 1 : crow[i];
      const std::int64_t last = upper ? crow[i + 1] : diagonal[i];
      T* xi = x + i * k;
      if (adjoint) {
        if (inverse)
          for (std::int64_t c = c0; c < c1; ++c) xi[c] *= conjugate(inverse[i]);
        for (std::int64_t e = first; e < last; ++e) {
          const T a = conjugate(values[e]);
          T* xj = x + static_cast<std::int64_t>(ccol[e]) * k;
          for (std::int64_t c = c0; c < c1; ++c) xj[c] -= a * xi[c];
        }
      } else {
        for (std::int64_t e = first; e < last; ++e) {
          const T a = values[e];
          const T* xj = x + static_cast<std::int64_t>(ccol[e]) * k;
          for (std::int64_t c = c0; c < c1; ++c) xi[c] -= a * xj[c];
        }
        if (inverse)
          for (std::int64_t c = c0; c < c1; ++c) xi[c] *= inverse[i];
      }
    }
  });
}

}  // namespace torch_sla
