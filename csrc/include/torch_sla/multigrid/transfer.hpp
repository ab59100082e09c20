// Prolongation: piecewise constant on aggregates in the span of the near-nullspace, then smoothed.
#pragma once

#include "aggregation.hpp"
#include "block_packs.hpp"
#include "dense.hpp"

namespace torch_sla::multigrid {

// Near-nullspace of one level: `columns` vectors as [rows, block, columns]. Empty values stand for
// the identity of each block row (constants, one for each component), which is never stored.
template <class V>
struct NearNullspace {
  int columns = 1;
  Buffer<V> values;
};

// Tentative prolongation by a QR factorisation on each aggregate: Q becomes the transfer
// [rows, block, k], R the near-nullspace of the coarse level [aggregates, k, k]. A column that is
// dependent on the earlier ones on its aggregate becomes zero.
template <class V, class I>
NearNullspace<V> tentative(const NearNullspace<V>& fine, int block, const Buffer<I>& group, I count,
                           Buffer<V>& Q, int threads) {
  const int k = fine.columns;
  const std::int64_t n = static_cast<std::int64_t>(group.size());
  std::vector<I> start(static_cast<std::size_t>(count) + 1, 0), member;
  for (std::int64_t i = 0; i < n; ++i)
    if (group[i] >= 0) ++start[group[i] + 1];
  for (I g = 0; g < count; ++g) start[g + 1] += start[g];
  member.resize(start[count]);
  std::vector<I> cursor(start.begin(), start.end() - 1);
  for (std::int64_t i = 0; i < n; ++i)
    if (group[i] >= 0) member[cursor[group[i]]++] = static_cast<I>(i);

  const std::int64_t row = std::int64_t(block) * k;
  Q.assign(n * row, V(0));
  NearNullspace<V> coarse;
  coarse.columns = k;
  coarse.values.assign(std::int64_t(count) * k * k, V(0));
  parallel_for(count, threads_for(n * row, threads), [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<double> q;
    for (std::int64_t g = begin; g < end; ++g) {
      const int m = static_cast<int>(start[g + 1] - start[g]) * block;
      q.resize(std::size_t(m) * k);
      for (I t = start[g]; t < start[g + 1]; ++t)
        for (int r = 0; r < block; ++r)
          for (int c = 0; c < k; ++c)
            q[std::size_t(c) * m + (t - start[g]) * block + r] =
                fine.values[member[t] * row + std::int64_t(r) * k + c];
      V* R = coarse.values.data() + g * k * k;
      for (int c = 0; c < k; ++c) {
        double* v = q.data() + std::size_t(c) * m;
        double before = 0.0, after = 0.0;
        for (int e = 0; e < m; ++e) before += v[e] * v[e];
        for (int pass = 0; pass < 2; ++pass)
          for (int p = 0; p < c; ++p) {
            const double* u = q.data() + std::size_t(p) * m;
            double dot = 0.0;
            for (int e = 0; e < m; ++e) dot += u[e] * v[e];
            for (int e = 0; e < m; ++e) v[e] -= dot * u[e];
            R[p * k + c] += V(dot);
          }
        for (int e = 0; e < m; ++e) after += v[e] * v[e];
        const bool dependent = !(after > 1e-10 * before);
        const double norm = std::sqrt(after);
        R[c * k + c] = dependent ? V(0) : V(norm);
        for (int e = 0; e < m; ++e) v[e] = dependent ? 0.0 : v[e] / norm;
      }
      for (I t = start[g]; t < start[g + 1]; ++t)
        for (int r = 0; r < block; ++r)
          for (int c = 0; c < k; ++c)
            Q[member[t] * row + std::int64_t(r) * k + c] =
                V(q[std::size_t(c) * m + (t - start[g]) * block + r]);
    }
  });
  return coarse;
}

// Pattern of the smoothed prolongation: row i reaches the aggregates of itself and of those neighbours whose
// couplings are strong or carry.
template <class V, class I>
BlockMatrix<V, I> prolongation_pattern(const BlockMatrix<V, I>& A, const Strength<V, I>& S,
                                       const Buffer<I>& group, I count, int columns, int threads) {
  BlockMatrix<V, I> P;
  P.rows = A.rows;
  P.cols = count;
  P.br = A.br;
  P.bc = columns;
  P.own_ptr.resize(static_cast<std::size_t>(A.rows) + 1);
  threads = threads_for(A.nnz(), threads);
  const int workers = worker_count(A.rows, threads);
  std::vector<Buffer<I>> found(workers);
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    Buffer<I>& out = found[worker];
    out.reserve((end - begin) * 2 + 16);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::size_t first = out.size();
      if (group[i] >= 0) out.push_back(group[i]);
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
        if (!S.strong[s]) continue;
        const I g = group[A.col[s]];
        if (g < 0) continue;
        std::size_t t = first;
        while (t < out.size() && out[t] != g) ++t;
        if (t == out.size()) out.push_back(g);
      }
      P.own_ptr[i + 1] = static_cast<I>(out.size() - first);
    }
  });
  P.own_ptr[0] = 0;
  for (I i = 0; i < A.rows; ++i) P.own_ptr[i + 1] += P.own_ptr[i];
  P.own_col.resize(P.own_ptr[A.rows]);
  std::size_t at = 0;
  for (auto& chunk : found) {
    std::copy(chunk.begin(), chunk.end(), P.own_col.begin() + at);
    at += chunk.size();
  }
  P.val.resize(P.own_col.size() * P.block());
  P.adopt();
  return P;
}

// Values of P = (I - omega D^-1 A) T on the pattern above, where A is filtered: other couplings are
// added to the diagonal D, so that constants are kept. omega = damping over a bound of the spectral
// radius of D^-1 A: that of Gershgorin for scalars, `radius` for blocks.
template <int B, int K, class V, class I>
void prolongation_values(const BlockMatrix<V, I>& A, const Strength<V, I>& S, const Buffer<I>& group,
                         const Buffer<V>& T, double damping, double radius, BlockMatrix<V, I>& P,
                         int threads) {
  const int b = B ? B : A.br, k = K ? K : P.bc;
  const std::int64_t bb = std::int64_t(b) * b, bk = std::int64_t(b) * k;
  threads = threads_for(A.nnz() * bb, threads);
  Buffer<V> own;  // the filtered diagonal of scalars
  if constexpr (B == 1) {
    own.resize(A.rows);
    std::vector<double> bound(worker_count(A.rows, threads), 0.0);
    parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      V most = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        V weak = 0, sum = 0;
        for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
          const V a = A.val[s], strong = V(S.strong[s] != 0);
          weak += a - strong * a;
          sum += strong * std::abs(a);
        }
        const V d = S.diagonal[i] < 0 ? V(0) : A.val[S.diagonal[i]];
        own[i] = weak * d > V(0.1) * d * d ? weak : d;
        if (own[i] != V(0)) most = std::max(most, V(1) + sum / std::abs(own[i]));
      }
      bound[worker] = most;
    });
    radius = std::max(1.0, *std::max_element(bound.begin(), bound.end()));
  }
  const auto filtered = [&](std::int64_t i, V* D) {
    if constexpr (B == 1) {
      D[0] = own[i];
    } else {
      const I d = S.diagonal[i];
      for (int e = 0; e < bb; ++e) D[e] = d < 0 ? V(0) : A.val[d * bb + e];
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
        if (s != d && !S.strong[s])
          for (int e = 0; e < bb; ++e) D[e] += A.val[s * bb + e];
    }
  };
  const V omega = V(damping / radius);
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    V D[capacity(B) * capacity(B)] = {}, AT[capacity(B) * capacity(K)] = {};
    int pivot[capacity(B)];
    for (std::int64_t i = begin; i < end; ++i) {
      const I first = P.ptr[i], last = P.ptr[i + 1];
      if (first == last) continue;
      V* row = P.val.data() + first * bk;
      std::fill(row, row + (last - first) * bk, V(0));
      filtered(i, D);
      const auto add = [&](I j, const V* a) {  // row[group j] += a T_j
        const I g = group[j];
        if (g < 0) return;
        I t = first;
        while (P.col[t] != g) ++t;
        V* to = P.val.data() + t * bk;
        if (!T.empty()) block_product<B, B, K, false>(a, b, b, k).add(T.data() + j * bk, to);
        else for (std::int64_t e = 0; e < std::min(bb, bk); ++e) to[e] += a[e];
      };
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
        if (S.strong[s]) add(A.col[s], A.val.data() + s * bb);
      add(static_cast<I>(i), D);
      // Where the diagonal is singular the transfer is not smoothed.
      bool usable;
      if constexpr (B == 1) {
        usable = D[0] != V(0);
        if (usable) D[0] = V(1) / D[0];
      } else {
        usable = invert(D, b, pivot);
      }
      for (I t = first; t < last; ++t) {
        V* to = P.val.data() + t * bk;
        std::fill(AT, AT + bk, V(0));
        if (usable) block_product<B, B, K, false>(D, b, b, k).add(to, AT);
        for (std::int64_t e = 0; e < bk; ++e) to[e] = -omega * AT[e];
      }
      if (group[i] < 0) continue;
      for (int r = 0; r < b; ++r)
        for (int c = 0; c < k; ++c)
          row[r * k + c] += T.empty() ? V(r == c) : T[i * bk + r * k + c];
    }
  });
}

}  // namespace torch_sla::multigrid
