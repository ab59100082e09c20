// Aggregation: disjoint groups of strongly coupled rows, each of which becomes one coarse unknown.
#pragma once

#include "strength.hpp"

namespace torch_sla::multigrid {

// Couplings within this factor of the strongest are as good: small changes of the numbers then leave the
// aggregates alone.
constexpr double kNearlyBest = 0.45;

// Greedy aggregation in row order (Vanek, Mandel and Brezina 1996). A row all of whose strong
// neighbours are free founds an aggregate with them; each remaining row joins the first aggregate among
// those to which it is coupled most strongly; what is then left groups with its free neighbours. Rows without strong couplings get
// -1: the smoother solves them. Returns the number of aggregates.
template <class V, class I>
I aggregate(const BlockMatrix<V, I>& A, const Strength<V, I>& S, Buffer<I>& group) {
  constexpr I kFree = -2, kAlone = -1;
  const I n = A.rows;
  const std::int64_t block = A.block();
  group.assign(n, kFree);
  I count = 0;
  for (I i = 0; i < n; ++i) {
    if (group[i] != kFree) continue;
    bool alone = true, free = true;
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      if (S.strong[s] != kStrong) continue;
      alone = false;
      if (group[A.col[s]] >= 0) {
        free = false;
        break;
      }
    }
    if (alone) {
      group[i] = kAlone;
    } else if (free) {
      group[i] = count;
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
        if (S.strong[s] == kStrong) group[A.col[s]] = count;
      ++count;
    }
  }
  // Joining reads the groups of the first pass only, so that aggregates do not grow in chains.
  Buffer<I> joined(group);
  for (I i = 0; i < n; ++i) {
    if (group[i] != kFree) continue;
    const auto size = [&](I s) {
      return block > 1 ? frobenius<0>(A.val.data() + s * block, static_cast<int>(block))
                       : std::abs(double(A.val[s]));
    };
    double best = 0.0;
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      if (S.strong[s] == kStrong && group[A.col[s]] >= 0) best = std::max(best, size(s));
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      if (S.strong[s] == kStrong && group[A.col[s]] >= 0 && size(s) >= kNearlyBest * best) {
        joined[i] = group[A.col[s]];
        break;
      }
  }
  group.swap(joined);
  for (I i = 0; i < n; ++i) {
    if (group[i] != kFree) continue;
    group[i] = count;
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      if (S.strong[s] == kStrong && group[A.col[s]] == kFree) group[A.col[s]] = count;
    ++count;
  }
  return count;
}

}  // namespace torch_sla::multigrid
