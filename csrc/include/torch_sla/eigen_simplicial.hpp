// Eigen's simplicial Cholesky factorisations with the analysis kept apart, so that many factors
// share one ordering and a factor is never disturbed by a later one.
//
// Eigen analyses and factorises in one object that cannot be copied. Here the analysis (AMD order,
// elimination tree, column counts, and where each value of the permuted upper triangle comes from) is
// made once from the pattern, and each factor starts from it.
#pragma once

#include <Eigen/OrderingMethods>
#include <Eigen/SparseCholesky>
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "torch_sla/factor.hpp"
#include "torch_sla/parallel.hpp"
#include "torch_sla/spmm.hpp"

namespace torch_sla {

// What the pattern of a structurally symmetric matrix determines.
struct SimplicialAnalysis {
  std::int64_t n = 0, slots = 0;   // rows and entries of the matrix
  std::vector<int> order;          // [n] original index of the k-th pivot
  std::vector<int> upper_offsets;  // [n + 1] columns of the permuted upper triangle
  std::vector<int> upper_rows;     // [nnz of it] row indices, any order within a column
  std::vector<int> upper_slots;    // [nnz of it] slot of the matrix each value is read from
  std::vector<int> parent;         // [n] elimination tree, -1 at roots
  std::vector<int> counts;         // [n] entries below the diagonal in each column of L
  std::int64_t below_diagonal = 0;  // their sum

  // crow [n + 1], ccol [nnz]: sorted unique rows.
  template <class Index>
  SimplicialAnalysis(const Index* crow, const Index* ccol, std::int64_t size)
      : n(size), slots(crow[size]) {
    // The ordering merges the pattern with its transpose and works in place, with 32-bit indices.
    if (n > std::numeric_limits<int>::max() / 4 || slots > std::numeric_limits<int>::max() / 4)
      throw std::length_error("the matrix has too many rows or entries for 32-bit factor indices");
    compute_order(crow, ccol);
    permute(crow, ccol);
    count();
    if (below_diagonal + n > std::numeric_limits<int>::max())
      throw std::length_error("the factor has too many entries for 32-bit indices");
  }

  std::int64_t bytes() const {
    return static_cast<std::int64_t>(sizeof(int)) *
           (4 * n + 1 + 2 * static_cast<std::int64_t>(upper_rows.size()));
  }

 private:
  template <class Index>
  void compute_order(const Index* crow, const Index* ccol) {
    using Pattern = Eigen::SparseMatrix<float, Eigen::ColMajor, int>;
    const std::int64_t nnz = crow[n];
    std::vector<int> offsets(crow, crow + n + 1), columns(ccol, ccol + nnz);
    const std::vector<float> ones(nnz, 1.0f);
    const Eigen::Map<const Pattern> map(n, n, nnz, offsets.data(), columns.data(), ones.data());
    const Pattern matrix(map);
    Eigen::PermutationMatrix<Eigen::Dynamic, Eigen::Dynamic, int> permutation;
    if (n > 0) Eigen::AMDOrdering<int>()(matrix, permutation);
    order.resize(n);
    for (std::int64_t k = 0; k < n; ++k) order[k] = permutation.indices()[k];
  }

  template <class Index>
  void permute(const Index* crow, const Index* ccol) {
    std::vector<int> position(n);
    for (std::int64_t k = 0; k < n; ++k) position[order[k]] = static_cast<int>(k);
    upper_offsets.assign(n + 1, 0);
    const auto visit = [&](auto&& use) {
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) {
          const int row = position[i], column = position[ccol[e]];
          if (row <= column) use(row, column, e);
        }
    };
    visit([&](int, int column, std::int64_t) { ++upper_offsets[column + 1]; });
    for (std::int64_t k = 0; k < n; ++k) upper_offsets[k + 1] += upper_offsets[k];
    upper_rows.resize(upper_offsets[n]);
    upper_slots.resize(upper_offsets[n]);
    std::vector<int> next(upper_offsets.begin(), upper_offsets.end() - 1);
    visit([&](int row, int column, std::int64_t e) {
      const int p = next[column]++;
      upper_rows[p] = row;
      upper_slots[p] = static_cast<int>(e);
    });
  }

  // Row k of L is reached from the entries of column k of the upper triangle by climbing the tree
  // built so far; each climb ends at a node already seen for this row.
  void count() {
    parent.assign(n, -1);
    counts.assign(n, 0);
    std::vector<int> seen(n);
    for (int k = 0; k < n; ++k) {
      seen[k] = k;
      for (int p = upper_offsets[k]; p < upper_offsets[k + 1]; ++p)
        for (int i = upper_rows[p]; seen[i] != k; i = parent[i]) {
          if (parent[i] < 0) parent[i] = k;
          ++counts[i];
          ++below_diagonal;
          seen[i] = k;
        }
    }
  }
};

// L Lᴴ (Base = SimplicialLLT) or L D Lᴴ (Base = SimplicialLDLT) of a Hermitian matrix, of which one
// triangle is read.
template <class T, template <class, int, class> class Base>
class SimplicialFactor : public DirectFactor<T>,
                         private Base<Eigen::SparseMatrix<T, Eigen::ColMajor, int>, Eigen::Upper,
                                      Eigen::NaturalOrdering<int>> {
  using Matrix = Eigen::SparseMatrix<T, Eigen::ColMajor, int>;
  using Solver = Base<Matrix, Eigen::Upper, Eigen::NaturalOrdering<int>>;
  static constexpr bool ldlt = std::is_same<
      Solver, Eigen::SimplicialLDLT<Matrix, Eigen::Upper, Eigen::NaturalOrdering<int>>>::value;

 public:
  // values [nnz] on the slots of the analysed pattern.
  SimplicialFactor(const SimplicialAnalysis& analysis, const T* values) : order_(analysis.order) {
    const std::int64_t n = this->n_rows = analysis.n;
    Matrix upper(n, n);
    upper.resizeNonZeros(static_cast<Eigen::Index>(analysis.upper_rows.size()));
    std::copy(analysis.upper_offsets.begin(), analysis.upper_offsets.end(), upper.outerIndexPtr());
    std::copy(analysis.upper_rows.begin(), analysis.upper_rows.end(), upper.innerIndexPtr());
    for (std::size_t p = 0; p < analysis.upper_slots.size(); ++p)
      upper.valuePtr()[p] = values[analysis.upper_slots[p]];
    // Both triangles: what is not read must not hide what is not a number.
    for (std::int64_t e = 0; e < analysis.slots; ++e)
      if (!is_finite(values[e])) {
        this->status = FactorStatus::nonfinite;
        return;
      }

    this->m_parent = Eigen::Map<const Eigen::VectorXi>(analysis.parent.data(), n);
    this->m_nonZerosPerCol.setZero(n);
    this->m_matrix.resize(n, n);
    int* offsets = this->m_matrix.outerIndexPtr();
    for (std::int64_t k = 0; k < n; ++k)
      offsets[k + 1] = offsets[k] + analysis.counts[k] + (ldlt ? 0 : 1);
    this->m_matrix.resizeNonZeros(offsets[n]);
    if (ldlt) this->m_diag.setConstant(n, T(std::numeric_limits<double>::quiet_NaN()));
    this->m_analysisIsOk = true;
    this->template factorize_preordered<ldlt>(upper);

    if (this->m_info != Eigen::Success) {
      this->status = ldlt ? FactorStatus::singular : FactorStatus::not_positive_definite;
      this->pivot = analysis.order[failed_row()];
    } else {
      for (std::int64_t k = 0; k < n; ++k)
        if (!is_finite(diagonal(k))) this->status = FactorStatus::nonfinite;
    }
    this->nonzeros = analysis.below_diagonal + n;
    this->m_parent.resize(0);
    this->m_nonZerosPerCol.resize(0);
  }

  std::int64_t bytes() const override {
    return this->m_matrix.nonZeros() * static_cast<std::int64_t>(sizeof(T) + sizeof(int)) +
           static_cast<std::int64_t>(order_.size()) * (2 * sizeof(int) + (ldlt ? sizeof(T) : 0));
  }

  void pivots(T* out) const override {
    for (std::size_t k = 0; k < order_.size(); ++k) {
      const T d = diagonal(static_cast<std::int64_t>(k));
      out[k] = ldlt ? d : d * d;
    }
  }

  void solve(const T* b, T* x, std::int64_t k, SolveMode mode, int threads) const override {
    // Aᴴ = A, and Aᵀ x = b is conj(A conj(x)) = b.
    const bool conjugate = mode == SolveMode::transposed;
    const std::int64_t panels = (k + 7) / 8;
    parallel_for(panels, threads, [&](std::int64_t begin, std::int64_t end, int) {
      std::vector<T> y(order_.size() * 8);
      for (std::int64_t first = begin * 8; first < std::min(end * 8, k);) {
        const std::int64_t left = k - first;
        const int width = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        if (width == 8) panel<8>(b, x, k, first, conjugate, y.data());
        if (width == 4) panel<4>(b, x, k, first, conjugate, y.data());
        if (width == 2) panel<2>(b, x, k, first, conjugate, y.data());
        if (width == 1) panel<1>(b, x, k, first, conjugate, y.data());
        first += width;
      }
    });
  }

 private:
  std::vector<int> order_;

  T diagonal(std::int64_t k) const {
    return ldlt ? this->m_diag[k] : this->m_matrix.valuePtr()[this->m_matrix.outerIndexPtr()[k]];
  }

  // Rows are computed in order: L D Lᴴ stops at the first zero of D, L Lᴴ before the first column
  // that has no entry.
  std::int64_t failed_row() const {
    const std::int64_t n = static_cast<std::int64_t>(order_.size());
    std::int64_t k = 0;
    if (ldlt) {
      while (k + 1 < n && this->m_diag[k] != T(0)) ++k;
    } else {
      while (k + 1 < n && this->m_nonZerosPerCol[k + 1] > 0) ++k;
    }
    return k;
  }

  // Solve for `Width` columns at once; y [n, Width] is scratch.
  template <int Width>
  void panel(const T* b, T* x, std::int64_t k, std::int64_t first, bool conjugate, T* y) const {
    const std::int64_t n = static_cast<std::int64_t>(order_.size());
    const int* offsets = this->m_matrix.outerIndexPtr();
    const int* rows = this->m_matrix.innerIndexPtr();
    const T* values = this->m_matrix.valuePtr();
    const auto maybe_conj = [&](T a) { return conjugate ? Scalar<T>::conj(a) : a; };
    for (std::int64_t j = 0; j < n; ++j)
      for (int c = 0; c < Width; ++c) y[j * Width + c] = maybe_conj(b[order_[j] * k + first + c]);
    for (std::int64_t j = 0; j < n; ++j) {  // L y = P b, column by column
      T* own = y + j * Width;
      std::int64_t p = offsets[j];
      if (!ldlt) {
        const T scale = T(1) / values[p++];
        for (int c = 0; c < Width; ++c) own[c] *= scale;
      }
      for (; p < offsets[j + 1]; ++p) {
        T* other = y + static_cast<std::int64_t>(rows[p]) * Width;
        for (int c = 0; c < Width; ++c) Scalar<T>::add_product(other[c], -values[p], own[c]);
      }
    }
    for (std::int64_t j = n - 1; j >= 0; --j) {  // (D) Lᴴ z = y, row by row
      T* own = y + j * Width;
      if (ldlt) {
        const T scale = T(1) / this->m_diag[j];
        for (int c = 0; c < Width; ++c) own[c] *= scale;
      }
      for (std::int64_t p = offsets[j] + (ldlt ? 0 : 1); p < offsets[j + 1]; ++p) {
        const T* other = y + static_cast<std::int64_t>(rows[p]) * Width;
        const T factor = -Scalar<T>::conj(values[p]);
        for (int c = 0; c < Width; ++c) Scalar<T>::add_product(own[c], factor, other[c]);
      }
      if (!ldlt) {
        const T scale = T(1) / values[offsets[j]];
        for (int c = 0; c < Width; ++c) own[c] *= scale;
      }
      for (int c = 0; c < Width; ++c) x[order_[j] * k + first + c] = maybe_conj(own[c]);
    }
  }
};

}  // namespace torch_sla
