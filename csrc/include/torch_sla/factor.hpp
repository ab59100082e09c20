// The face of a direct factorisation, whatever its kind.
#pragma once

#include <cmath>
#include <complex>
#include <cstdint>

namespace torch_sla {

enum class FactorStatus { ok, not_positive_definite, singular, nonfinite };

enum class SolveMode { plain, transposed, adjoint };

inline bool is_finite(float a) { return std::isfinite(a); }
inline bool is_finite(double a) { return std::isfinite(a); }
template <class R>
bool is_finite(std::complex<R> a) {
  return std::isfinite(a.real()) && std::isfinite(a.imag());
}

// Made complete by its constructor and never changed: concurrent solves are safe.
template <class T>
struct DirectFactor {
  std::int64_t n_rows = 0;     // of the matrix
  FactorStatus status = FactorStatus::ok;
  std::int64_t pivot = -1;     // row of the matrix where the factorisation stopped, -1 if it did not
  std::int64_t nonzeros = 0;   // entries of the factor (of both, for LU)
  int parity = 1;              // sign of the permutations: the determinant is parity * prod(pivots)

  virtual ~DirectFactor() = default;
  virtual std::int64_t bytes() const = 0;
  // out [n]: pivots in the order of elimination.
  virtual void pivots(T* out) const = 0;
  // op(A) x = b for b, x [n, k] row-major; b and x may be the same array.
  virtual void solve(const T* b, T* x, std::int64_t k, SolveMode mode, int threads) const = 0;
};

}  // namespace torch_sla
