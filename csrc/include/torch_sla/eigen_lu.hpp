// Eigen's supernodal LU with partial pivoting, its column ordering kept apart and shared.
//
// Compressed rows of A are compressed columns of B = Aᵀ, which is what Eigen factorises: solving with
// A is solving with Bᵀ. Indices inside are 64-bit, because the fill is not known beforehand.
#pragma once

#include <Eigen/OrderingMethods>
#include <Eigen/SparseLU>
#include <algorithm>
#include <complex>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#include "torch_sla/factor.hpp"
#include "torch_sla/parallel.hpp"

namespace torch_sla {

namespace detail {

template <class T>
using Columns = Eigen::SparseMatrix<T, Eigen::ColMajor, std::int64_t>;

template <class T>
using EigenLU = Eigen::SparseLU<Columns<T>, Eigen::COLAMDOrdering<std::int64_t>>;

// Gives access to what an analysis leaves behind.
struct AnalysedLU : EigenLU<double> {
  const PermutationType& permutation() const { return this->m_perm_c; }
  const IndexVector& tree() const { return this->m_etree; }
};

}  // namespace detail

// What the pattern determines: COLAMD column order combined with the postorder of the column
// elimination tree.
struct LUAnalysis {
  std::int64_t n = 0, slots = 0;            // rows and entries of the matrix
  std::vector<std::int64_t> offsets, rows;  // columns of Aᵀ
  std::vector<std::int64_t> position;       // [n] place of each column
  std::vector<std::int64_t> tree;           // [n + 1]

  template <class Index>
  LUAnalysis(const Index* crow, const Index* ccol, std::int64_t size)
      : n(size), slots(crow[size]), offsets(crow, crow + size + 1), rows(ccol, ccol + slots) {
    if (n == 0) return;
    const std::vector<double> ones(rows.size(), 1.0);
    const Eigen::Map<const detail::Columns<double>> map(n, n, slots, offsets.data(), rows.data(),
                                                        ones.data());
    detail::AnalysedLU analysed;
    analysed.analyzePattern(detail::Columns<double>(map));
    const auto& indices = analysed.permutation().indices();
    position.assign(indices.data(), indices.data() + indices.size());
    tree.assign(analysed.tree().data(), analysed.tree().data() + analysed.tree().size());
  }

  std::int64_t bytes() const {
    return static_cast<std::int64_t>(sizeof(std::int64_t)) *
           static_cast<std::int64_t>(offsets.size() + rows.size() + position.size() + tree.size());
  }
};

template <class T>
class LUFactor : public DirectFactor<T>, private detail::EigenLU<T> {
  using Solver = detail::EigenLU<T>;
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  using Indices = Eigen::Matrix<std::int64_t, Eigen::Dynamic, 1>;

 public:
  LUFactor(const LUAnalysis& analysis, const T* values) : n_(analysis.n) {
    this->n_rows = n_;
    if (n_ == 0) return;
    for (std::int64_t e = 0; e < analysis.slots; ++e)
      if (!is_finite(values[e])) {
        this->status = FactorStatus::nonfinite;
        return;
      }
    this->m_perm_c.indices() = Eigen::Map<const Indices>(analysis.position.data(), n_);
    this->m_etree = Eigen::Map<const Indices>(analysis.tree.data(), n_ + 1);
    this->m_analysisIsOk = true;
    this->m_factorizationIsOk = false;
    this->m_info = Eigen::Success;
    const Eigen::Map<const detail::Columns<T>> map(n_, n_, analysis.slots,
                                                   analysis.offsets.data(), analysis.rows.data(),
                                                   values);
    Solver::factorize(detail::Columns<T>(map));
    if (!this->m_factorizationIsOk) {
      if (this->m_info == Eigen::Success ||
          this->m_lastError.find("MEMORY") != std::string::npos)
        throw std::bad_alloc();
      this->status = FactorStatus::singular;
      // The column that had no pivot is the last one numbered; columns of Aᵀ are rows of A.
      const std::int64_t last = this->m_perm_r.indices().maxCoeff();
      const auto& position = analysis.position;
      this->pivot = std::find(position.begin(), position.end(), last) - position.begin();
      return;
    }
    this->nonzeros = this->m_nnzL + this->m_nnzU - n_;
    this->parity = static_cast<int>(this->m_detPermR * this->m_detPermC);
    this->m_mat = detail::Columns<T>();
    trim();
    std::vector<T> diagonal(n_);
    pivots(diagonal.data());
    for (const T d : diagonal)
      if (!is_finite(d)) this->status = FactorStatus::nonfinite;
  }

  std::int64_t bytes() const override {
    const auto& g = this->m_glu;
    return static_cast<std::int64_t>(sizeof(T)) * (g.lusup.size() + g.ucol.size()) +
           static_cast<std::int64_t>(sizeof(std::int64_t)) * (g.lsub.size() + g.usub.size() + 8 * n_);
  }

  void pivots(T* out) const override {
    // The diagonal of U is stored in the supernodes of L: row j - first of column j.
    const auto& store = this->m_Lstore;
    for (std::int64_t j = 0; j < n_; ++j) {
      const std::int64_t first = store.supToCol()[store.colToSup()[j]];
      out[j] = store.valuePtr()[store.colIndexPtr()[j] + (j - first)];
    }
  }

  void solve(const T* b, T* x, std::int64_t k, SolveMode mode, int threads) const override {
    using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
    using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    if (n_ == 0 || k == 0) return;
    const Eigen::Map<const Rows> right(b, n_, k);
    Eigen::Map<Rows> left(x, n_, k);
    // Panels of fixed width: how columns are grouped changes rounding, and must not follow the
    // number of threads.
    constexpr std::int64_t width = 8;
    parallel_for((k + width - 1) / width, threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t panel = begin; panel < end; ++panel) {
        const std::int64_t first = panel * width, columns = std::min(width, k - first);
        Dense y(n_, columns);
        if (mode == SolveMode::plain) {  // Bᵀ x = b
          y = this->m_perm_c * right.middleCols(first, columns);
          this->matrixU().template solveTransposedInPlace<false>(y);
          this->matrixL().template solveTransposedInPlace<false>(y);
          left.middleCols(first, columns) = this->m_perm_r.transpose() * y;
        } else {  // B x = b, conjugated for the adjoint
          y = this->m_perm_r * right.middleCols(first, columns);
          if (mode == SolveMode::adjoint) y = y.conjugate().eval();
          this->matrixL().solveInPlace(y);
          this->matrixU().solveInPlace(y);
          if (mode == SolveMode::adjoint) y = y.conjugate().eval();
          left.middleCols(first, columns) = this->m_perm_c.inverse() * y;
        }
      }
    });
  }

 private:
  std::int64_t n_;

  // Working storage is guessed generously; keep what is used.
  void trim() {
    auto& g = this->m_glu;
    g.lusup.conservativeResize(g.xlusup(n_));
    g.ucol.conservativeResize(g.xusub(n_));
    g.usub.conservativeResize(g.xusub(n_));
    g.lsub.conservativeResize(g.xlsub(n_));
    this->m_Lstore.setInfos(n_, n_, g.lusup, g.xlusup, g.lsub, g.xlsub, g.supno, g.xsup);
    using Upper = Eigen::MappedSparseMatrix<T, Eigen::ColMajor, std::int64_t>;
    new (&this->m_Ustore)
        Upper(n_, n_, g.xusub(n_), g.xusub.data(), g.usub.data(), g.ucol.data());
  }
};

}  // namespace torch_sla
