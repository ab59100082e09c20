// Rows that values tie together: a smoother inverts each small group of them as one block.
//
// Rows i and j are tied where  min(|a_ij|, |a_ji|)^2 >= 0.55 |a_ii a_jj|,  norms in place of numbers for blocks.
// A flat tetrahedron brings one stiff condition on its four corners: all of its couplings are that strong, whatever
// their signs. Three of the four ways in which the corners can move meet no stiffness, and a smoother that
// knows the rows one by one shortens every step there by the factor of the stiffness; the coarse levels see one of the
// three. Neighbours on a regular grid reach a quarter; along a stretched one, and at its free ends, a quarter and a half.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block_packs.hpp"
#include "dense.hpp"
#include "matrix.hpp"

namespace torch_sla::multigrid {

constexpr double kTied = 0.55;       // of the product of the diagonal entries, the square of the coupling
constexpr int kMostTied = 2 * kMaxBlock;  // scalar rows in a group

// acc -= (row i of A) x
template <int B, class V, class X, class I>
inline void subtract_row(const BlockMatrix<V, I>& A, std::int64_t i, const X* x, X* acc, int b) {
  if constexpr (B == 1) {
    X sum = acc[0];
    prefetch(A.val.data() + A.ptr[i]);
    for (I s = A.ptr[i], end = A.ptr[i + 1]; s < end; ++s) sum -= A.val[s] * x[A.col[s]];
    acc[0] = sum;
  } else if constexpr (kPacked && B > 1 && std::is_same_v<V, X>) {
    const I start = A.ptr[i];
    PackedRow<B, V>::subtract(A.val.data() + start * std::int64_t(B * B), A.col + start, A.ptr[i + 1] - start, x, acc);
  } else {
    const std::int64_t bb = std::int64_t(b) * b;
    for (I s = A.ptr[i], end = A.ptr[i + 1]; s < end; ++s) {
      const V* a = A.val.data() + s * bb;
      const X* xj = x + std::int64_t(A.col[s]) * b;
      prefetch(a);
      for (int r = 0; r < b; ++r) {
        X sum = a[r * b] * xj[0];  // apart, so that blocks wait for each other once
        for (int c = 1; c < b; ++c) sum += a[r * b + c] * xj[c];
        acc[r] -= sum;
      }
    }
  }
}

// Groups of tied rows, in the order of their first rows, and the dense block that the smoother puts in place of
// those of the single rows.
template <class V, class I>
struct Tied {
  Buffer<I> start, row;      // rows of group g: row[start[g]] ... in increasing order
  Buffer<std::int64_t> at;   // its block: inverse[at[g]] ..., edge rows * b
  Buffer<V> inverse;

  std::int64_t count() const { return static_cast<std::int64_t>(at.size()); }
  std::size_t bytes() const { return bytes_of(start) + bytes_of(row) + bytes_of(at) + bytes_of(inverse); }
  bool operator==(const Tied& o) const { return start == o.start && row == o.row && inverse == o.inverse; }

  // The same with transposed blocks.
  Tied transposed(int b) const {
    Tied out(*this);
    for (std::int64_t g = 0; g < count(); ++g) {
      const int m = static_cast<int>(start[g + 1] - start[g]) * b;
      for (int p = 0; p < m; ++p)
        for (int q = 0; q < m; ++q) out.inverse[at[g] + p * m + q] = inverse[at[g] + q * m + p];
    }
    return out;
  }

  // Calls put(scalar row, z) for z = M (f - A x) of group g; `f` or `x` may be null for zero.
  template <int B, class X, class F>
  void solve(std::int64_t g, const BlockMatrix<V, I>& A, const X* f, const X* x, F&& put) const {
    const int b = B ? B : A.br, rows = static_cast<int>(start[g + 1] - start[g]), m = rows * b;
    const I* own = row.data() + start[g];
    X r[kMostTied];
    for (int k = 0; k < rows; ++k) {
      for (int c = 0; c < b; ++c) r[k * b + c] = f ? f[std::int64_t(own[k]) * b + c] : X(0);
      if (x) subtract_row<B>(A, own[k], x, r + k * b, b);
    }
    const V* M = inverse.data() + at[g];
    for (int p = 0; p < m; ++p) {
      X z = M[p * m] * r[0];
      for (int q = 1; q < m; ++q) z += M[p * m + q] * r[q];
      put(std::int64_t(own[p / b]) * b + p % b, z);
    }
  }

  // The same for all groups; returns the sum of what `put` returns.
  template <int B, class X, class F>
  Sum<X> solve_all(const BlockMatrix<V, I>& A, const X* f, const X* x, int threads, F&& put) const {
    if (at.empty()) return Sum<X>(0.0);
    threads = threads_for(std::int64_t(inverse.size()), threads);
    return parallel_sum<Sum<X>>(count(), threads, [&](std::int64_t begin, std::int64_t end) {
      Sum<X> total = 0.0;
      for (std::int64_t g = begin; g < end; ++g)
        solve<B>(g, A, f, x, [&](std::int64_t i, const X& z) { total += put(i, z); });
      return total;
    });
  }
};

// Finds the groups among `candidates`, the rows with a coupling of at least sqrt(kTied) times their own diagonal,
// in increasing order: of two tied rows the one with the smaller diagonal is among them. `size(s)` is that of slot s.
template <class V, class I, class Size>
void find_tied(const BlockMatrix<V, I>& A, const Buffer<I>& diagonal, const std::vector<I>& candidates, Tied<V, I>& out,
               Size&& size) {
  std::vector<I> parent, members;
  const auto root = [&](I i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  for (const I i : candidates)
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      const I j = A.col[s], di = diagonal[i], dj = diagonal[j];
      if (j == i || dj < 0) continue;
      const double own = size(di) * size(dj), there = size(s);
      if (!(there * there >= kTied * own)) continue;
      double back = 0.0;
      for (I t = A.ptr[j]; t < A.ptr[j + 1]; ++t)
        if (A.col[t] == i) back = size(t);
      if (!(back * back >= kTied * own)) continue;
      if (parent.empty()) {
        parent.resize(A.rows);
        members.assign(A.rows, 1);
        for (I k = 0; k < A.rows; ++k) parent[k] = k;
      }
      const I p = root(i), q = root(j);
      if (p == q || (members[p] + members[q]) * A.br > kMostTied) continue;
      parent[std::max(p, q)] = std::min(p, q);  // the first row of a group is its root
      members[std::min(p, q)] += members[std::max(p, q)];
    }
  out = Tied<V, I>();
  if (parent.empty()) return;
  std::vector<I> group(A.rows, -1);
  out.start.push_back(0);
  for (I i = 0; i < A.rows; ++i)
    if (parent[i] == i && members[i] > 1) {
      group[i] = static_cast<I>(out.start.size()) - 1;
      out.start.push_back(out.start.back() + members[i]);
    }
  out.row.resize(out.start.back());
  std::vector<I> cursor(out.start.begin(), out.start.end() - 1);
  for (I i = 0; i < A.rows; ++i)
    if (const I g = group[root(i)]; g >= 0) out.row[cursor[g]++] = i;
}

// The dense block of rows `own` [m / b], row-major, and in `outside` [m] what couples each scalar row to the others,
// summed by size.
template <class V, class I>
void tied_block(const BlockMatrix<V, I>& A, const I* own, int rows, double* block, double* outside) {
  const int b = A.br, m = rows * b;
  std::fill(block, block + m * m, 0.0);
  std::fill(outside, outside + m, 0.0);
  for (int k = 0; k < rows; ++k)
    for (I s = A.ptr[own[k]]; s < A.ptr[own[k] + 1]; ++s) {
      const int l = static_cast<int>(std::find(own, own + rows, A.col[s]) - own);
      for (int r = 0; r < b; ++r)
        for (int c = 0; c < b; ++c) {
          const double a = A.val[(s * std::int64_t(b) + r) * b + c];
          if (l < rows) block[(k * b + r) * m + l * b + c] += a;
          else outside[k * b + r] += std::abs(a);
        }
    }
}

// The factor w for which w Z comes closest to an inverse on the rows `own`: min ||I - w Z A||_F over them, Z A
// the identity on the group itself.
template <class V, class I>
double tied_weight(const BlockMatrix<V, I>& A, const I* own, int rows, const double* Z) {
  const int b = A.br, m = rows * b;
  std::vector<I> cols;
  for (int k = 0; k < rows; ++k) cols.insert(cols.end(), A.col + A.ptr[own[k]], A.col + A.ptr[own[k] + 1]);
  std::sort(cols.begin(), cols.end());
  cols.erase(std::unique(cols.begin(), cols.end()), cols.end());
  const std::size_t width = cols.size() * b;
  std::vector<double> R(width * m, 0.0);
  for (int k = 0; k < rows; ++k)
    for (I s = A.ptr[own[k]]; s < A.ptr[own[k] + 1]; ++s) {
      const std::size_t l = std::lower_bound(cols.begin(), cols.end(), A.col[s]) - cols.begin();
      for (int r = 0; r < b; ++r)
        for (int c = 0; c < b; ++c) R[(k * b + r) * width + l * b + c] = A.val[(s * std::int64_t(b) + r) * b + c];
    }
  double total = 0.0;
  for (int p = 0; p < m; ++p)
    for (std::size_t c = 0; c < width; ++c) {
      double sum = 0.0;
      for (int q = 0; q < m; ++q) sum += Z[p * m + q] * R[q * width + c];
      total += sum * sum;
    }
  return m / total;
}

}  // namespace torch_sla::multigrid
