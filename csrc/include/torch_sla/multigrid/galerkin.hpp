// Galerkin product A_c = P^T A P by merging rows, with a marker that holds the slot of each column.
#pragma once

#include "matrix.hpp"

namespace torch_sla::multigrid {

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

// The row under construction: a sparse set of columns with a block each. A column is present when
// its recorded place holds it, so that nothing is cleared between rows.
template <class V, class I>
struct SparseRow {
  Buffer<I> place, col;
  Buffer<V> val;
  I count = 0;
  int block;

  SparseRow(I cols, int block_size) : place(cols, I(0)), block(block_size) { grow(64); }
  void grow(std::size_t size) {
    col.resize(size);
    val.resize(size * block);
  }
  V* slot(I c) {
    I at = place[c];
    if (at >= count || col[at] != c) {
      at = count++;
      if (static_cast<std::size_t>(at) == col.size()) grow(2 * col.size());
      place[c] = at;
      col[at] = c;
      V* to = val.data() + std::int64_t(at) * block;
      for (int e = 0; e < block; ++e) to[e] = V(0);
      return to;
    }
    return val.data() + std::int64_t(at) * block;
  }
};

// The row under construction where the pattern is known: the place of a column is its slot.
template <class V, class I>
struct KnownRow {
  Buffer<I> place;
  V* val;
  int block;
  V* slot(I c) { return val + std::int64_t(place[c]) * block; }
};

// Builds C row by row: `row(i, out)` adds the terms of row i to `out`. Where C already has a pattern
// only its values are computed.
template <class V, class I, class Row>
void build_rows(BlockMatrix<V, I>& C, I rows, I cols, int br, int bc, bool diagonal_first,
                int threads, Row&& row) {
  const bool numeric = C.ptr != nullptr;
  const int block = br * bc;
  C.rows = rows;
  C.cols = cols;
  C.br = br;
  C.bc = bc;
  const int workers = worker_count(rows, threads);
  std::vector<Buffer<I>> found_col(workers);
  std::vector<Buffer<V>> found_val(workers);
  if (numeric) C.val.resize(C.nnz() * block);
  else C.own_ptr.resize(static_cast<std::size_t>(rows) + 1);
  parallel_for(rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    if (numeric) {
      KnownRow<V, I> out{Buffer<I>(cols), C.val.data(), block};
      for (std::int64_t i = begin; i < end; ++i) {
        for (I s = C.ptr[i]; s < C.ptr[i + 1]; ++s) out.place[C.col[s]] = s;
        std::fill(C.val.data() + C.ptr[i] * std::int64_t(block), C.val.data() + C.ptr[i + 1] * std::int64_t(block), V(0));
        row(i, out);
      }
      return;
    }
    SparseRow<V, I> out(cols, block);
    Buffer<I>& col = found_col[worker];
    Buffer<V>& val = found_val[worker];
    for (std::int64_t i = begin; i < end; ++i) {
      out.count = 0;
      if (diagonal_first) out.slot(static_cast<I>(i));
      row(i, out);
      col.insert(col.end(), out.col.begin(), out.col.begin() + out.count);
      val.insert(val.end(), out.val.begin(), out.val.begin() + std::int64_t(out.count) * block);
      C.own_ptr[i + 1] = out.count;
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
  for (int worker = 0; worker < workers; ++worker) {
    Buffer<I>& col = found_col[worker];
    Buffer<V>& val = found_val[worker];
    std::copy(col.begin(), col.end(), C.own_col.begin() + at);
    std::copy(val.begin(), val.end(), C.val.begin() + at * block);
    at += static_cast<std::int64_t>(col.size());
    Buffer<I>().swap(col);
    Buffer<V>().swap(val);
  }
  C.adopt();
}

// Short rows: R A P in one sweep, nothing stored between. Long rows and blocks: A P first, because
// each of its rows is then used by several coarse rows and the arithmetic decides, not the traffic.
constexpr double kFusedTerms = 40.0;  // per row

template <int B, int K, class V, class I>
void galerkin(const BlockMatrix<V, I>& A, const BlockMatrix<V, I>& P, BlockMatrix<V, I>& C,
              int threads) {
  const int b = B ? B : A.br, k = K ? K : P.bc;
  const std::int64_t bb = std::int64_t(b) * b, bk = std::int64_t(b) * k;
  threads = threads_for(A.nnz() * bk, threads);
  const BlockMatrix<V, I> R = transpose(P);
  const double rows = std::max<double>(1.0, A.rows), p = P.nnz() / rows;
  if constexpr (B == 1 && K == 1) {
    if (p * p * (A.nnz() / rows) <= kFusedTerms) {
      build_rows(C, P.cols, P.cols, 1, 1, true, threads, [&](std::int64_t row, auto& out) {
        for (I t = R.ptr[row]; t < R.ptr[row + 1]; ++t) {
          const I i = R.col[t];
          const V r = R.val[t];
          for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
            const I j = A.col[s];
            const V ra = r * A.val[s];
            for (I u = P.ptr[j]; u < P.ptr[j + 1]; ++u) *out.slot(P.col[u]) += ra * P.val[u];
          }
        }
      });
      return;
    }
  }
  BlockMatrix<V, I> AP;
  build_rows(AP, A.rows, P.cols, b, k, false, threads, [&](std::int64_t i, auto& out) {
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      const I j = A.col[s];
      for (I u = P.ptr[j]; u < P.ptr[j + 1]; ++u)
        multiply_add<B, B, K>(A.val.data() + s * bb, P.val.data() + u * bk, out.slot(P.col[u]), b, b, k);
    }
  });
  build_rows(C, P.cols, P.cols, k, k, true, threads, [&](std::int64_t row, auto& out) {
    for (I t = R.ptr[row]; t < R.ptr[row + 1]; ++t) {
      const I i = R.col[t];
      for (I u = AP.ptr[i]; u < AP.ptr[i + 1]; ++u)
        multiply_add<K, B, K>(R.val.data() + t * bk, AP.val.data() + u * bk, out.slot(AP.col[u]), k, b, k);
    }
  });
  // A near-nullspace vector that vanishes on an aggregate leaves an empty coarse row: an identity
  // row keeps it harmless.
  if (k == 1) return;
  for (I g = 0; g < C.rows; ++g) {
    V* D = C.val.data() + std::int64_t(C.ptr[g]) * k * k;
    for (int c = 0; c < k; ++c)
      if (D[c * k + c] == V(0)) D[c * k + c] = V(1);
  }
}

}  // namespace torch_sla::multigrid
