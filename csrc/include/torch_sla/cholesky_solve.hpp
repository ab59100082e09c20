// Solving with a symmetric factor.
#pragma once

#include "cholesky_object.hpp"
#include "substitution.hpp"

namespace torch_sla {

namespace detail {

// Rows of `work` by D^-1, conj(D)^-1 where the work is conjugated. 2x2 blocks are scaled by their
// coupling first, which is their largest entry.
template <class T>
void divide_blocks(const Factor<T>& f, T* work, Size K) {
  const bool conj = f.conj() == Conj::yes;
  for (Size j = 0; j < f.symbolic->n; ++j) {
    T* x = work + j * K;
    if (f.width[j] == 1) {
      const T d = conj ? T(real_part(f.diagonal[j])) : f.diagonal[j];
      for (Size k = 0; k < K; ++k) x[k] /= d;
    } else if (f.width[j] == 2) {
      T* y = x + K;
      const T lower = conj ? conjugate(f.coupling[j]) : f.coupling[j];  // row j+1, column j
      const T upper = f.coupling[j];
      const T p = f.diagonal[j] / lower, q = f.diagonal[j + 1] / upper, det = product(p, q) - T(1);
      for (Size k = 0; k < K; ++k) {
        const T u = x[k], v = y[k];
        x[k] = (product(q, u) - v) / (det * lower);
        y[k] = (product(p, v) - u) / (det * upper);
      }
    }
  }
}

// What a symmetric factor does with a front.
template <class T>
struct SymmetricSteps {
  const Factor<T>& f;
  const Blas<T>& blas;
  Triangle<T> lower{*f.symbolic, f.panels.data(), f.pivot.data(), f.conj() == Conj::yes, f.pivoted()};

  void forward(std::int32_t a, T* work, Size K, T* front, std::int32_t end, T* outside) const {
    if (K == 1)
      forward_vector(lower, a, work, front, end, outside);
    else
      forward_block(lower, a, work, K, front, end, outside, blas);
  }
  void between(T* work, Size K) const {
    if (f.pivoted()) divide_blocks(f, work, K);
  }
  void backward(std::int32_t a, T* work, Size K, T* front) const {
    if (K == 1)
      backward_vector(lower, a, work, front);
    else
      backward_block(lower, a, work, K, front, blas);
  }
};

}  // namespace detail

// x = op(A)^-1 b for b, x [n, nrhs] in rows. `conjugated` solves with conj(A) in place of A; transposed
// and conjugate transposed systems follow from the kind (A^T = conj(A) where A is Hermitian, A^T = A
// where it is symmetric). x may be b.
template <class T>
void solve(const Factor<T>& f, const T* b, T* x, Size nrhs, bool conjugated, int threads, const Blas<T>& blas) {
  const bool flip = is_complex<T> && ((f.conj() == Conj::yes) != conjugated);
  const detail::SymmetricSteps<T> steps{f, blas};
  substitute(*f.symbolic, steps, f.scale.empty() ? nullptr : f.scale.data(), flip, b, x, nrhs, threads);
}

}  // namespace torch_sla
