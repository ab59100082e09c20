// Galerkin product A_c = P^T A P by merging rows, with a marker that holds the slot of each column.
#pragma once

#include "matrix.hpp"

namespace torch_sla::multigrid {

// Rows of a product while they are found: one list per worker, joined in order.
template <class V, class I>
struct RowBuilder {
  Buffer<I> col;
  Buffer<V> val;
};

// C += X Y for small row-major blocks.
template <int M, int N, int K, class V>
inline void multiply_add(const V* X, const V* Y, V* C, int m, int n, int k) {
  if constexpr (M == 1 && N == 1 && K == 1) {
    C[0] += X[0] * Y[0];
    return;
  }
  const int mm = M ? M : m, nn = N ? N : n, kk = K ? K : k;
  for (int r = 0; r < mm; ++r)
    for (int q = 0; q < nn; ++q) {
      const V x = X[r * nn + q];
      for (int c = 0; c < kk; ++c) C[r * kk + c] += x * Y[q * kk + c];
    }
}

// Builds C row by row. `row(i, slot)` visits the terms of row i and calls slot(column) for the block
// to which a term adds. Where C already has a pattern only its values are computed.
template <class V, class I, class Row>
void build_rows(BlockMatrix<V, I>& C, I rows, I cols, int br, int bc, bool diagonal_first,
                int threads, Row&& row) {
  const bool numeric = C.ptr != nullptr;
  const std::int64_t block = std::int64_t(br) * bc;
  C.rows = rows;
  C.cols = cols;
  C.br = br;
  C.bc = bc;
  const int workers = worker_count(rows, threads);
  std::vector<RowBuilder<V, I>> parts(workers);
  if (!numeric) C.own_ptr.resize(static_cast<std::size_t>(rows) + 1);
  parallel_for(rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    RowBuilder<V, I>& part = parts[worker];
    Buffer<std::int64_t> marker(cols, -1);
    for (std::int64_t i = begin; i < end; ++i) {
      if (numeric) {
        for (std::int64_t s = C.ptr[i]; s < C.ptr[i + 1]; ++s) marker[C.col[s]] = s;
        std::fill(C.val.begin() + C.ptr[i] * block, C.val.begin() + C.ptr[i + 1] * block, V(0));
        row(i, worker, [&](I c) -> V* { return C.val.data() + marker[c] * block; });
      } else {
        const std::int64_t first = static_cast<std::int64_t>(part.col.size());
        const auto slot = [&](I c) -> V* {
          std::int64_t& at = marker[c];
          if (at < first) {
            at = static_cast<std::int64_t>(part.col.size());
            part.col.push_back(c);
            part.val.resize(part.val.size() + block, V(0));
          }
          return part.val.data() + at * block;
        };
        if (diagonal_first) slot(static_cast<I>(i));
        row(i, worker, slot);
        C.own_ptr[i + 1] = static_cast<I>(static_cast<std::int64_t>(part.col.size()) - first);
      }
    }
  });
  if (numeric) return;
  C.own_ptr[0] = 0;
  std::int64_t total = 0;
  for (I i = 0; i < rows; ++i) {
    total += C.own_ptr[i + 1];
    if (total > std::numeric_limits<I>::max())
      throw std::length_error("a coarse matrix has more entries than its index type can count");
    C.own_ptr[i + 1] = static_cast<I>(total);
  }
  C.own_col.resize(total);
  C.val.resize(total * block);
  std::int64_t at = 0;
  for (auto& part : parts) {
    std::copy(part.col.begin(), part.col.end(), C.own_col.begin() + at);
    std::copy(part.val.begin(), part.val.end(), C.val.begin() + at * block);
    at += static_cast<std::int64_t>(part.col.size());
    part = RowBuilder<V, I>();
  }
  C.adopt();
}

// Scalars: R A P in one sweep, nothing stored between. Blocks: A P first, because each of its rows is
// then used by several coarse rows and the arithmetic, not the traffic, decides.
template <int B, int K, class V, class I>
void galerkin(const BlockMatrix<V, I>& A, const BlockMatrix<V, I>& P, BlockMatrix<V, I>& C,
              int threads) {
  const int b = B ? B : A.br, k = K ? K : P.bc;
  const std::int64_t bb = std::int64_t(b) * b, bk = std::int64_t(b) * k;
  threads = threads_for(A.nnz() * bk, threads);
  const BlockMatrix<V, I> R = transpose(P);
  if constexpr (B == 1 && K == 1) {
    build_rows(C, P.cols, P.cols, 1, 1, true, threads, [&](std::int64_t row, int, auto&& slot) {
      for (I t = R.ptr[row]; t < R.ptr[row + 1]; ++t) {
        const I i = R.col[t];
        const V r = R.val[t];
        for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
          const I j = A.col[s];
          const V ra = r * A.val[s];
          for (I u = P.ptr[j]; u < P.ptr[j + 1]; ++u) *slot(P.col[u]) += ra * P.val[u];
        }
      }
    });
  } else {
    BlockMatrix<V, I> AP;
    build_rows(AP, A.rows, P.cols, b, k, false, threads, [&](std::int64_t i, int, auto&& slot) {
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
        const I j = A.col[s];
        for (I u = P.ptr[j]; u < P.ptr[j + 1]; ++u)
          multiply_add<B, B, K>(A.val.data() + s * bb, P.val.data() + u * bk, slot(P.col[u]), b, b, k);
      }
    });
    build_rows(C, P.cols, P.cols, k, k, true, threads, [&](std::int64_t row, int, auto&& slot) {
      for (I t = R.ptr[row]; t < R.ptr[row + 1]; ++t) {
        const I i = R.col[t];
        for (I u = AP.ptr[i]; u < AP.ptr[i + 1]; ++u)
          multiply_add<K, B, K>(R.val.data() + t * bk, AP.val.data() + u * bk, slot(AP.col[u]), k, b, k);
      }
    });
    // A near-nullspace vector that vanishes on an aggregate leaves an empty coarse row: an identity
    // row keeps it harmless.
    for (I g = 0; g < C.rows; ++g) {
      V* D = C.val.data() + std::int64_t(C.ptr[g]) * k * k;
      for (int c = 0; c < k; ++c)
        if (D[c * k + c] == V(0)) D[c * k + c] = V(1);
    }
  }
}

}  // namespace torch_sla::multigrid
