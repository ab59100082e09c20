// Rows of a coarse matrix that hold nothing but rounding.
//
// A part of the matrix that is singular by itself, and coupled to nothing else, comes down to one such row long before
// the largest part is small. Its inverse would be as large as rounding is small.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "dense.hpp"
#include "matrix.hpp"

namespace torch_sla::multigrid {

// Energies below this share of their terms are rounding; what a level rounds is the larger beside the numbers of the
// next, which cancel more.
template <class V>
double lost_share(int level) {
  return 16.0 * std::numeric_limits<V>::epsilon() * std::pow(4.0, level);
}

// By what share of its terms the diagonal of such a row is lifted.
template <class V>
constexpr double kLift = sizeof(V) == 4 ? 1e-4 : 1e-8;

// Lifts rows of C = P^T A P among `alone`, those that are coupled to no others, that are lost. Of one value, the diagonal
// itself says so. Smoothed transfers bring rigid bodies down to a few digits only: of vectors, the near-nullspace on the
// aggregate says it, T^T A T, which has a null space where the part moves freely, or turns about a hinge.
template <class V, class I>
void lift_lost(const BlockMatrix<V, I>& A, const Buffer<I>& diagonal, const BlockMatrix<V, I>& P, const Buffer<I>& group,
               const Buffer<V>& T, BlockMatrix<V, I>& C, const std::vector<I>& alone, int level) {
  if (alone.empty()) return;
  const int b = A.br, k = P.bc;
  const std::int64_t bb = std::int64_t(b) * b, bk = std::int64_t(b) * k, kk = std::int64_t(k) * k;
  std::vector<I> place(C.rows, -1);
  for (std::size_t m = 0; m < alone.size(); ++m) place[alone[m]] = static_cast<I>(m);
  std::vector<double> terms(alone.size() * k, 0.0), sizes(terms), energy(alone.size() * kk, 0.0), block(kk);
  const bool vectors = !T.empty();
  for (I i = 0; i < A.rows; ++i) {
    if (diagonal[i] < 0) continue;
    const V* D = A.val.data() + diagonal[i] * bb;
    for (I u = P.ptr[i]; u < P.ptr[i + 1]; ++u)
      if (const I m = place[P.col[u]]; m >= 0)
        for (std::int64_t e = 0; e < bk; ++e) {
          const double p = P.val[u * bk + e];
          terms[m * k + e % k] += p * p * D[e / k * (b + 1)];
        }
    const I m = vectors && group[i] >= 0 ? place[group[i]] : I(-1);
    if (m < 0) continue;
    const V* t = T.data() + i * bk;
    for (std::int64_t e = 0; e < bk; ++e)
      sizes[m * k + e % k] += double(t[e]) * t[e] * std::abs(D[e / k * (b + 1)]);
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      if (group[A.col[s]] != group[i]) continue;
      const V *a = A.val.data() + s * bb, *other = T.data() + A.col[s] * bk;
      for (int r = 0; r < b; ++r)
        for (int q = 0; q < b; ++q)
          for (int e = 0; e < kk; ++e) energy[m * kk + e] += double(t[r * k + e / k]) * a[r * b + q] * other[q * k + e % k];
    }
  }
  const double share = lost_share<V>(level);
  for (std::size_t m = 0; m < alone.size(); ++m) {
    bool singular = false;
    if (vectors) {
      double most = 0.0, smallest;
      for (int e = 0; e < kk; ++e) {
        const double size = std::sqrt(sizes[m * k + e / k] * sizes[m * k + e % k]);
        block[e] = size > 0.0 ? energy[m * kk + e] / size : double(e / k == e % k);
        most = std::max(most, std::abs(block[e]));
      }
      singular = most <= share || !nullspace(block, k, share / most, &smallest).empty();
    }
    for (int c = 0; c < k; ++c) {
      V& own = C.val[C.ptr[alone[m]] * kk + c * (k + 1)];
      const double from = terms[m * k + c];
      if (vectors ? singular : std::abs(own) <= share * std::abs(from)) own += V(kLift<V> * from);
    }
  }
}

}  // namespace torch_sla::multigrid
