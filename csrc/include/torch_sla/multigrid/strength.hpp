// Strength of connection: which couplings carry smooth error.
//
// The coupling of rows i and j is strong when  v_ij^2 >= theta^2 m_i m_j,  with v_ij = -a_ij sign(a_ii)
// for scalars (a positive off-diagonal entry never carries smooth error) and the Frobenius norm for
// blocks, and m_i the largest v_ij of row i. Relative to the largest coupling rather than to the
// diagonal, one theta serves 5-point, 27-point and finite element matrices; the geometric mean keeps
// aggregates from crossing a jump of the coefficient; on stretched grids it leaves the short edges.
// A row whose couplings add up to a twentieth of its diagonal is left to the smoother.
//
// Beside these, a coupling that is large for its own row,  v_ij >= theta m_i,  carries the transfer to that
// row: on the soft side of a jump, where no aggregate reaches across, the solution follows the stiff side.
#pragma once

#include <algorithm>
#include <cmath>

#include "matrix.hpp"

namespace torch_sla::multigrid {

constexpr double kDecoupled = 0.05;
// Couplings at the threshold itself are common on regular grids; rounding must not decide about them.
constexpr double kTie = 0.99;

// Slot of each diagonal block; throws where a row has none or a zero one between other entries.
template <class V, class I>
Buffer<I> diagonal_slots(const BlockMatrix<V, I>& A, int threads) {
  Buffer<I> diagonal(A.rows);
  std::vector<std::int64_t> bad(worker_count(A.rows, threads), -1);
  parallel_for(A.rows, threads_for(A.nnz(), threads),
               [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t i = begin; i < end; ++i) {
      const I from = A.ptr[i], to = A.ptr[i + 1];
      I slot = from;
      while (slot < to && A.col[slot] != static_cast<I>(i)) ++slot;
      diagonal[i] = slot < to ? slot : I(-1);
      if (slot == to && from < to && bad[worker] < 0) bad[worker] = i;
    }
  });
  for (std::int64_t row : bad)
    if (row >= 0)
      throw std::domain_error("row " + std::to_string(row) + " has entries but none on the diagonal");
  return diagonal;
}

template <int B, class V>
double frobenius(const V* block, int n) {
  double total = 0.0;
  for (int e = 0; e < n; ++e) total += double(block[e]) * double(block[e]);
  return std::sqrt(total);
}

constexpr std::uint8_t kCarried = 1, kStrong = 2;

template <class V, class I>
struct Strength {
  Buffer<std::uint8_t> strong;  // [nnz] kStrong, kCarried where only the transfer is, or 0
  Buffer<I> diagonal;           // [rows] slot of the diagonal block
};

// `diagonal`: the slots of the diagonal blocks.
template <class V, class I>
Buffer<std::uint8_t> strong_couplings(const BlockMatrix<V, I>& A, const Buffer<I>& diagonal, double theta,
                                      int threads) {
  Buffer<std::uint8_t> strong(A.nnz());
  Buffer<V> largest(A.rows), norm;
  const int block = static_cast<int>(A.block());
  threads = threads_for(A.nnz(), threads);
  if (block > 1) norm.resize(A.nnz());
  const V* size = block > 1 ? norm.data() : A.val.data();
  const auto sign = [&](I d) { return block > 1 || (d >= 0 && A.val[d] < 0) ? V(1) : V(-1); };
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      V most = 0, sum = 0;
      if (block > 1)
        for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
          norm[s] = V(frobenius<0>(A.val.data() + s * std::int64_t(block), block));
      const I d = diagonal[i];
      const V turn = sign(d);
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
        const V v = s == d ? V(0) : turn * size[s];
        most = std::max(most, v);
        sum += std::abs(v);
      }
      const V own = d < 0 ? V(0) : std::abs(size[d]);
      largest[i] = sum > V(kDecoupled) * own ? most : V(0);
    }
  });
  const V theta2 = V(kTie * theta * theta), theta1 = V(std::sqrt(kTie) * theta);
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const V bound = theta2 * largest[i], own = theta1 * largest[i], turn = sign(diagonal[i]);
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
        const V v = turn * size[s], other = largest[A.col[s]];
        const bool coupled = (v > 0) & (largest[i] > 0) & (other > 0);
        strong[s] = coupled & (v * v >= bound * other) ? kStrong : coupled & (v >= own) ? kCarried : 0;
      }
      if (diagonal[i] >= 0) strong[diagonal[i]] = 0;
    }
  });
  return strong;
}

template <class V, class I>
Strength<V, I> strength(const BlockMatrix<V, I>& A, double theta, int threads) {
  Strength<V, I> out;
  out.diagonal = diagonal_slots(A, threads);
  out.strong = strong_couplings(A, out.diagonal, theta, threads);
  return out;
}

}  // namespace torch_sla::multigrid
