// The coarsest matrix: its dense inverse, or pseudo-inverse where it has a null space.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "dense.hpp"
#include "matrix.hpp"

namespace torch_sla::multigrid {

struct CoarseRank {
  int nullity = 0;
  double pivot = 1.0;  // smallest pivot of the scaled matrix
};

// Writes the (pseudo-)inverse of `a` [n, n] in the precision of the levels.
template <class V>
CoarseRank invert_coarsest(std::vector<double>& a, int n, Buffer<V>& inverse) {
  CoarseRank rank;
  rank.nullity = scaled_pseudo_invert(a, n, kSingular<V>, &rank.pivot);
  if (rank.nullity < 0) throw std::domain_error("the coarsest matrix could not be inverted");
  inverse.resize(a.size());
  std::transform(a.begin(), a.end(), inverse.begin(), [](double v) { return V(v); });
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
