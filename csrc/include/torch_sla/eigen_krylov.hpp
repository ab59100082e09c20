// Eigen's conjugate gradients and BiCGSTAB, with the preconditioner kept apart from the matrix: it is
// built once and serves any number of solves, on arrays that are only mapped.
#pragma once

#include <Eigen/IterativeLinearSolvers>
#include <Eigen/SparseCore>
#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "torch_sla/factor.hpp"
#include "torch_sla/interrupt.hpp"

namespace torch_sla {

// Compressed rows, mapped.
template <class T>
using RowMap = Eigen::Map<const Eigen::SparseMatrix<T, Eigen::RowMajor, int>>;

template <class T>
RowMap<T> map_rows(const int* crow, const int* ccol, const T* values, std::int64_t n) {
  return RowMap<T>(n, n, crow[n], crow, ccol, values);
}

enum class KrylovStatus { converged, limit, breakdown, nonfinite };

struct KrylovReport {
  KrylovStatus status = KrylovStatus::converged;
  std::int64_t iterations = 0;
  double residual = 0;  // true one, relative to the right-hand side
  std::vector<double> history;  // residuals of the recurrence, relative to the right-hand side
};

// A method with its preconditioner.
template <class T>
struct Krylov {
  bool ready = false;  // whether the preconditioner could be built

  virtual ~Krylov() = default;
  virtual std::int64_t bytes() const = 0;
  // A x = b for one column, b and x [n]; x holds the start and receives the solution.
  virtual KrylovReport solve(const RowMap<T>& matrix, const T* b, T* x, double rtol,
                             std::int64_t maxiter) const = 0;
};

enum class KrylovMethod { cg, bicgstab };

// A preconditioner that notes the norms of what it is applied to: conjugate gradients hand it each
// residual, BiCGSTAB in turn a direction and the residual of the half step.
template <class Preconditioner>
class Noting {
 public:
  explicit Noting(const Preconditioner& inner) : inner_(inner) {}

  template <class Vector>
  decltype(auto) solve(const Vector& r) const {
    check_interrupt();
    norms_.push_back(static_cast<double>(r.norm()));
    return inner_.solve(r);
  }

  // Every `stride`-th norm from `first` on.
  std::vector<double> every(std::size_t first, std::size_t stride) const {
    std::vector<double> out;
    for (std::size_t i = first; i < norms_.size(); i += stride) out.push_back(norms_[i]);
    return out;
  }

 private:
  const Preconditioner& inner_;
  mutable std::vector<double> norms_;
};

template <class T, class Preconditioner, KrylovMethod method>
class KrylovWith : public Krylov<T> {
  using Real = typename Eigen::NumTraits<T>::Real;
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  using Incomplete = Eigen::IncompleteCholesky<T, Eigen::Lower, Eigen::AMDOrdering<int>>;

 public:
  explicit KrylovWith(const RowMap<T>& matrix) {
    for (std::int64_t e = 0; e < matrix.nonZeros(); ++e)
      if (!is_finite(matrix.valuePtr()[e])) return;
    if constexpr (std::is_same<Preconditioner, Incomplete>::value)
      if (!full_diagonal(matrix)) return;  // Eigen takes it for granted
    if constexpr (std::is_same<Preconditioner, Eigen::IncompleteLUT<T, int>>::value) {
      preconditioner_.setDroptol(Real(1e-4));
      preconditioner_.setFillfactor(10);
    }
    const Eigen::SparseMatrix<T, Eigen::ColMajor, int> columns(matrix);
    preconditioner_.compute(columns);
    this->ready = preconditioner_.info() == Eigen::Success;
    entries_ = matrix.nonZeros();
    rows_ = matrix.rows();
  }

  std::int64_t bytes() const override {
    const auto entry = static_cast<std::int64_t>(sizeof(T) + sizeof(int));
    if (std::is_same<Preconditioner, Eigen::IdentityPreconditioner>::value) return 0;
    if (std::is_same<Preconditioner, Eigen::DiagonalPreconditioner<T>>::value)
      return rows_ * static_cast<std::int64_t>(sizeof(T));
    return entry * entries_;  // the order of magnitude: Eigen does not tell what ILUT keeps
  }

  KrylovReport solve(const RowMap<T>& matrix, const T* b, T* x, double rtol,
                     std::int64_t maxiter) const override {
    const Eigen::Map<const Vector> right(b, matrix.rows());
    Eigen::Map<Vector> out(x, matrix.rows());
    KrylovReport report;
    const Real size = right.stableNorm();
    if (size == Real(0)) {
      out.setZero();
      return report;
    }
    // The methods work with squared norms: scaled to a right-hand side of norm one, none of them
    // under- or overflows.
    Vector start = out / size;
    const Vector unit = right / size;
    Eigen::Index iterations = maxiter;
    Real error = Real(rtol);
    bool sound = true;
    const Noting<Preconditioner> noting(preconditioner_);
    if constexpr (method == KrylovMethod::cg)
      Eigen::internal::conjugate_gradient(matrix, unit, start, noting, iterations, error);
    else
      sound = Eigen::internal::bicgstab(matrix, unit, start, noting, iterations, error);
    report.history = method == KrylovMethod::cg ? noting.every(1, 1) : noting.every(1, 2);
    if (static_cast<double>(error) <= rtol)  // the last residual stops the method instead
      report.history.push_back(static_cast<double>(error));
    const Vector defect = unit - matrix * start;
    out = start * size;
    report.iterations = iterations;
    report.residual = static_cast<double>(defect.stableNorm());
    if (!std::isfinite(report.residual))
      report.status = KrylovStatus::nonfinite;
    else if (!sound)
      report.status = KrylovStatus::breakdown;
    else if (!(static_cast<double>(error) <= rtol))
      report.status = KrylovStatus::limit;
    return report;
  }

 private:
  Preconditioner preconditioner_;
  std::int64_t entries_ = 0, rows_ = 0;

  static bool full_diagonal(const RowMap<T>& matrix) {
    for (std::int64_t i = 0; i < matrix.rows(); ++i) {
      bool found = false;
      for (typename RowMap<T>::InnerIterator entry(matrix, i); entry; ++entry)
        found = found || entry.col() == i;
      if (!found) return false;
    }
    return true;
  }
};

// method: cg (preconditioners none, jacobi, ichol) or bicgstab (none, jacobi, ilu).
template <class T>
std::unique_ptr<Krylov<T>> make_krylov(const std::string& method, const std::string& preconditioner,
                                       const RowMap<T>& matrix) {
  using None = Eigen::IdentityPreconditioner;
  using Jacobi = Eigen::DiagonalPreconditioner<T>;
  using Ichol = Eigen::IncompleteCholesky<T, Eigen::Lower, Eigen::AMDOrdering<int>>;
  using Ilu = Eigen::IncompleteLUT<T, int>;
  constexpr auto cg = KrylovMethod::cg, bicgstab = KrylovMethod::bicgstab;
  if (method == "cg") {
    if (preconditioner == "none") return std::make_unique<KrylovWith<T, None, cg>>(matrix);
    if (preconditioner == "jacobi") return std::make_unique<KrylovWith<T, Jacobi, cg>>(matrix);
    if (preconditioner == "ichol") return std::make_unique<KrylovWith<T, Ichol, cg>>(matrix);
  }
  if (method == "bicgstab") {
    if (preconditioner == "none") return std::make_unique<KrylovWith<T, None, bicgstab>>(matrix);
    if (preconditioner == "jacobi") return std::make_unique<KrylovWith<T, Jacobi, bicgstab>>(matrix);
    if (preconditioner == "ilu") return std::make_unique<KrylovWith<T, Ilu, bicgstab>>(matrix);
  }
  throw std::invalid_argument("no method `" + method + "` with preconditioner `" + preconditioner + "`");
}

}  // namespace torch_sla
