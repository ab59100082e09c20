// BLAS and LAPACK borrowed at run time: pointers to Fortran routines with 32-bit integers, as SciPy
// exports them. Any of them may be null; then our own kernels do the work.
#pragma once

#include <complex>
#include <mutex>

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

// How the lender's own thread pool is told its size; null where it cannot be.
struct BlasThreads {
  int (*get)() = nullptr;
  void (*set)(int) = nullptr;
};

inline BlasThreads& borrowed_threads() {
  static BlasThreads control;
  return control;
}

// While one of these lives, the lender's pool has one thread: ours are threads enough. The pool's size
// belongs to the whole process, so the first in saves it and the last out restores it.
class OneBlasThread {
 public:
  OneBlasThread() {
    const BlasThreads& control = borrowed_threads();
    if (!control.set || !control.get) return;
    const std::lock_guard<std::mutex> lock(guard());
    if (holders()++ > 0) return;
    saved() = control.get();
    if (saved() != 1) control.set(1);
  }
  ~OneBlasThread() {
    const BlasThreads& control = borrowed_threads();
    if (!control.set || !control.get) return;
    const std::lock_guard<std::mutex> lock(guard());
    if (--holders() == 0 && saved() != 1) control.set(saved());
  }
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  static std::mutex& guard() {
    static std::mutex m;
    return m;
  }
  static int& holders() {
    static int count = 0;
    return count;
  }
  static int& saved() {
    static int size = 1;
    return size;
  }
};

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

// C -= A A^H (or C = -A A^H), lower triangle, for A [n, k].
template <class T>
inline void call_rank(const Blas<T>& blas, int n, int k, const T* a, int lda, bool fresh, T* c, int ldc) {
  char uplo = 'L', plain = 'N';
  Real<T> minus = -1, keep = fresh ? 0 : 1;
  blas.rank(&uplo, &plain, &n, &k, &minus, lent(a), &lda, &keep, c, &ldc);
}

}  // namespace torch_sla
