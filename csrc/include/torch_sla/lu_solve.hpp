// Solving with an unsymmetric factor.
#pragma once

#include "lu.hpp"
#include "substitution.hpp"

namespace torch_sla {
namespace detail {

// Substitution with U and with U^T inside a front of `columns` own unknowns; `u` [columns, columns] has U on and above
// its diagonal, `across` [below, columns] the rest of its rows, transposed. x and rest are [.., K] in rows.
template <class T>
struct UpperFront {
  const Blas<T>& blas;
  Size rows, columns, K;
  const T *u, *across;

  Size below() const { return rows - columns; }

  // x := U^-1 (x - U_rest rest)
  void solve(T* x, const T* rest) const {
    if (K == 1) {
      const auto& own = dense::vector_kernels<T>();
      for (Size j = 0; j < columns; j += 4)
        own.gather(below(), std::min<Size>(4, columns - j), across + j * below(), below(), rest, x + j);
      for (Size j = (columns - 1) / 4 * 4; j >= 0; j -= 4) {
        const Size width = std::min<Size>(4, columns - j);
        for (Size p = j + width - 1; p >= j; --p) {
          x[p] /= u[p * rows + p];
          for (Size q = j; q < p; ++q) x[q] -= product(u[p * rows + q], x[p]);
        }
        own.apply(j, width, u + j * rows, rows, x + j, x);
      }
      return;
    }
    subtract_plain(blas, K, columns, below(), rest, across, below(), x);
    for (Size j = (columns - 1) / 8 * 8; j >= 0; j -= 8) {
      const Size width = std::min<Size>(8, columns - j);
      for (Size p = j + width - 1; p >= j; --p) {
        divide(p, x);
        for (Size q = j; q < p; ++q) subtract(u[p * rows + q], x + p * K, x + q * K);
      }
      subtract_product(blas, Conj::no, false, false, K, j, width, x + j * K, K, u + j * rows, rows, x, K);
    }
  }

  // x := U^-T x, then rest := -U_rest^T x
  void solve_transposed(T* x, T* rest) const {
    if (K == 1) {
      const auto& own = dense::vector_kernels<T>();
      std::fill(rest, rest + below(), T(0));
      for (Size j = 0; j < columns; j += 4) {
        const Size width = std::min<Size>(4, columns - j);
        own.gather(j, width, u + j * rows, rows, x, x + j);
        for (Size p = j; p < j + width; ++p) {
          for (Size q = j; q < p; ++q) x[p] -= product(u[p * rows + q], x[q]);
          x[p] /= u[p * rows + p];
        }
        own.apply(below(), width, across + j * below(), below(), x + j, rest);
      }
      return;
    }
    for (Size j = 0; j < columns; j += 8) {
      const Size width = std::min<Size>(8, columns - j);
      subtract_plain(blas, K, width, j, x, u + j * rows, rows, x + j * K);
      for (Size p = j; p < j + width; ++p) {
        for (Size q = j; q < p; ++q) subtract(u[p * rows + q], x + q * K, x + p * K);
        divide(p, x);
      }
    }
    subtract_product(blas, Conj::no, false, true, K, below(), columns, x, K, across, below(), rest, K);
  }

 private:
  void divide(Size p, T* x) const {
    const T inverse = T(1) / u[p * rows + p];
    for (Size k = 0; k < K; ++k) x[p * K + k] = product(x[p * K + k], inverse);
  }
  void subtract(T factor, const T* from, T* to) const {
    for (Size k = 0; k < K; ++k) to[k] -= product(factor, from[k]);
  }
};

// What an unsymmetric factor does with a front: L then U, or U^T then L^T.
template <class T>
struct UnsymmetricSteps {
  const LuFactor<T>& f;
  const Blas<T>& blas;
  bool transposed;
  Triangle<T> lower{*f.symbolic, f.lower.data(), f.pivot.data(), false, true};

  UpperFront<T> upper(std::int32_t a, Size K) const {
    const Symbolic& s = *f.symbolic;
    return {blas, s.rows(a), s.columns(a), K, f.lower.data() + s.panel[a], f.upper.data() + f.across[a]};
  }
  void forward(std::int32_t a, T* work, Size K, T* front, std::int32_t end, T* outside) const {
    const Symbolic& s = *f.symbolic;
    if (!transposed) {
      if (K == 1)
        forward_vector(lower, a, work, front, end, outside);
      else
        forward_block(lower, a, work, K, front, end, outside, blas);
      return;
    }
    const auto u = upper(a, K);
    T *x = work + s.first[a] * K, *rest = front + u.columns * K;
    u.solve_transposed(x, rest);
    const std::int32_t* row = s.row.data() + s.row_start[a];
    for (Size i = 0; i < u.below(); ++i) {
      T* to = (row[i] < end ? work : outside) + row[i] * K;
      for (Size k = 0; k < K; ++k) to[k] += rest[i * K + k];
    }
  }
  void between(T*, Size) const {}
  void backward(std::int32_t a, T* work, Size K, T* front) const {
    const Symbolic& s = *f.symbolic;
    if (transposed) {
      if (K == 1)
        backward_vector(lower, a, work, front);
      else
        backward_block(lower, a, work, K, front, blas);
      return;
    }
    const auto u = upper(a, K);
    const std::int32_t* row = s.row.data() + s.row_start[a];
    for (Size i = 0; i < u.below(); ++i) std::copy(work + row[i] * K, work + (row[i] + Size{1}) * K, front + i * K);
    u.solve(work + s.first[a] * K, front);
  }
};

}  // namespace detail

// A x = b, or A^T x = b, for b, x [n, nrhs] in rows; conj(A) in place of A where `conjugated`. x may be b.
template <class T>
void solve(const LuFactor<T>& f, const T* b, T* x, Size nrhs, bool transposed, bool conjugated, int threads,
           const Blas<T>& blas) {
  const detail::UnsymmetricSteps<T> steps{f, blas, transposed};
  substitute(*f.symbolic, steps, static_cast<const Real<T>*>(nullptr), is_complex<T> && conjugated, b, x, nrhs,
             threads);
}

}  // namespace torch_sla
