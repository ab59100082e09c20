// The coarsest matrix: its dense inverse, or pseudo-inverse where it has a null space.
#pragma once

#include <stdexcept>

#include "dense.hpp"
#include "matrix.hpp"

namespace torch_sla::multigrid {

// Row sums of a coarse matrix carry the rounding of all levels, in V.
template <class V>
constexpr double kSingular = sizeof(V) == 4 ? 1e-4 : 1e-10;

struct CoarseRank {
  int nullity = 0;
  double pivot = 1.0;  // smallest pivot of the scaled matrix
};

// Writes the (pseudo-)inverse of `a` [n, n] in the precision of the levels.
template <class V>
CoarseRank invert_coarsest(std::vector<double>& a, int n, Buffer<V>& inverse) {
  // Symmetric scaling by the diagonal, so that a jump of the coefficient does not pass for a null space.
  std::vector<double> scale(n, 1.0);
  for (int i = 0; i < n; ++i) {
    const double d = std::abs(a[std::size_t(i) * n + i]);
    if (d > 0.0) scale[i] = 1.0 / std::sqrt(d);
  }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) a[std::size_t(i) * n + j] *= scale[i] * scale[j];
  CoarseRank rank;
  rank.nullity = pseudo_invert(a, n, kSingular<V>, &rank.pivot);
  if (rank.nullity < 0) throw std::domain_error("the coarsest matrix could not be inverted");
  inverse.resize(a.size());
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j)
      inverse[std::size_t(i) * n + j] = V(a[std::size_t(i) * n + j] * scale[i] * scale[j]);
  return rank;
}

// x = inverse f, or with its transpose.
template <class V, class X>
void apply_coarsest(const Buffer<V>& inverse, const X* f, X* x, std::size_t n, bool transposed) {
  for (std::size_t r = 0; r < n; ++r) {
    X sum = V(0);
    if (transposed)
      for (std::size_t c = 0; c < n; ++c) sum += inverse[c * n + r] * f[c];
    else
      for (std::size_t c = 0; c < n; ++c) sum += inverse[r * n + c] * f[c];
    x[r] = sum;
  }
}

}  // namespace torch_sla::multigrid
