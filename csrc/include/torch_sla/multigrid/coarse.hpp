// The coarsest matrix: its dense inverse, or pseudo-inverse where it has a null space.
#pragma once

#include <stdexcept>

#include "dense.hpp"
#include "matrix.hpp"

namespace torch_sla::multigrid {

// Writes the inverse of `a` [n, n] in the precision of the levels; returns its nullity.
template <class V>
int invert_coarsest(std::vector<double>& a, int n, Buffer<V>& inverse) {
  // Symmetric scaling by the diagonal, so that a jump of the coefficient does not pass for a null space.
  std::vector<double> scale(n, 1.0);
  for (int i = 0; i < n; ++i) {
    const double d = std::abs(a[std::size_t(i) * n + i]);
    if (d > 0.0) scale[i] = 1.0 / std::sqrt(d);
  }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) a[std::size_t(i) * n + j] *= scale[i] * scale[j];
  // The set-up rounds row sums in V, over several levels.
  const int nullity = pseudo_invert(a, n, 100.0 * std::numeric_limits<V>::epsilon());
  if (nullity < 0) throw std::domain_error("the coarsest matrix could not be inverted");
  inverse.resize(a.size());
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j)
      inverse[std::size_t(i) * n + j] = V(a[std::size_t(i) * n + j] * scale[i] * scale[j]);
  return nullity;
}

// x = inverse f, or with its transpose.
template <class V>
void apply_coarsest(const Buffer<V>& inverse, const V* f, V* x, std::size_t n, bool transposed) {
  for (std::size_t r = 0; r < n; ++r) {
    V sum = 0;
    if (transposed)
      for (std::size_t c = 0; c < n; ++c) sum += inverse[c * n + r] * f[c];
    else
      for (std::size_t c = 0; c < n; ++c) sum += inverse[r * n + c] * f[c];
    x[r] = sum;
  }
}

}  // namespace torch_sla::multigrid
