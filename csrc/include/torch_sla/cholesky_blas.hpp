// BLAS and LAPACK borrowed at run time: pointers to Fortran routines with 32-bit integers, as SciPy
// exports them. Any of them may be null; then our own kernels do the work.
#pragma once

#include <complex>

#include "cholesky_scalar.hpp"

namespace torch_sla {

template <class T>
struct Blas {
  using Gemm = void(char*, char*, int*, int*, int*, T*, T*, int*, T*, int*, T*, T*, int*);
  using Trsm = void(char*, char*, char*, char*, int*, int*, T*, T*, int*, T*, int*);
  using Rank = void(char*, char*, int*, int*, Real<T>*, T*, int*, Real<T>*, T*, int*);
  using Potrf = void(char*, int*, T*, int*, int*);
  Gemm* gemm = nullptr;
  Trsm* trsm = nullptr;
  Rank* rank = nullptr;  // syrk, herk for complex types
  Potrf* potrf = nullptr;

  bool complete() const { return gemm && trsm && rank && potrf; }
};

// The routines the process has been lent, one table per type.
template <class T>
Blas<T>& borrowed_blas() {
  static Blas<T> table;
  return table;
}

// The libraries read their matrices and never write through these pointers.
template <class T>
inline T* lent(const T* x) {
  return const_cast<T*>(x);
}

template <class T>
inline void call_gemm(const Blas<T>& blas, char ta, char tb, int m, int n, int k, T alpha, const T* a,
                      int lda, const T* b, int ldb, T beta, T* c, int ldc) {
  blas.gemm(&ta, &tb, &m, &n, &k, &alpha, lent(a), &lda, lent(b), &ldb, &beta, c, &ldc);
}

template <class T>
inline void call_trsm(const Blas<T>& blas, char side, char uplo, char trans, char diag, int m, int n,
                      const T* a, int lda, T* b, int ldb) {
  T one = 1;
  blas.trsm(&side, &uplo, &trans, &diag, &m, &n, &one, lent(a), &lda, b, &ldb);
}

}  // namespace torch_sla
