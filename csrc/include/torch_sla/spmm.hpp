// Products of a sparse matrix in compressed rows with dense vectors, and the sampled outer product
// that is their derivative. Values and vectors are row-major and contiguous. Each result is summed
// in slot order, so it does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <vector>

#include "torch_sla/parallel.hpp"
#include "torch_sla/prefetch.hpp"

namespace torch_sla {

// Plain complex arithmetic: the operators of std::complex call into the library to repair products
// of infinities, at several times the cost.
template <class T>
struct Scalar {
  using type = T;
  static void add_product(T& sum, T a, T b) { sum += a * b; }
  static T conj(T a) { return a; }
};
template <class R>
struct Scalar<std::complex<R>> {
  using T = std::complex<R>;
  static void add_product(T& sum, T a, T b) {
    sum = T(sum.real() + (a.real() * b.real() - a.imag() * b.imag()),
            sum.imag() + (a.real() * b.imag() + a.imag() * b.real()));
  }
  static T conj(T a) { return T(a.real(), -a.imag()); }
};

// One product: sizes, where the values of a batch member and its vectors begin (a stride of zero
// shares one of them), and how values are read.
struct ProductShape {
  std::int64_t batch, n_rows, k;
  std::int64_t value_stride, x_stride, y_stride;
};

namespace detail {

// How the value of slot e is read: as stored, through a permutation, conjugated.
template <class Index, class T, bool Permuted, bool Conj>
struct Values {
  const T* values;
  const Index* slots;
  T operator[](std::int64_t e) const {
    const T a = values[Permuted ? static_cast<std::int64_t>(slots[e]) : e];
    return Conj ? Scalar<T>::conj(a) : a;
  }
};

// `Width` columns, from column `first`, of rows begin .. end-1 of one batch member.
template <int Width, class Index, class T, class A>
void spmm_rows(const Index* crow, const Index* ccol, const A& values, const T* x, T* y,
               std::int64_t k, std::int64_t first, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    T sum[Width] = {};
    for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) {
      const T a = values[e];
      const T* source = x + static_cast<std::int64_t>(ccol[e]) * k + first;
      for (int c = 0; c < Width; ++c) Scalar<T>::add_product(sum[c], a, source[c]);
    }
    for (int c = 0; c < Width; ++c) y[i * k + first + c] = sum[c];
  }
}

template <class Index, class T, class A>
void spmm_columns(const Index* crow, const Index* ccol, const A& values, const T* x, T* y,
                  std::int64_t k, std::int64_t begin, std::int64_t end) {
  std::int64_t first = 0;
  for (; first + 8 <= k; first += 8)
    spmm_rows<8>(crow, ccol, values, x, y, k, first, begin, end);
  for (; first + 4 <= k; first += 4)
    spmm_rows<4>(crow, ccol, values, x, y, k, first, begin, end);
  for (; first + 2 <= k; first += 2)
    spmm_rows<2>(crow, ccol, values, x, y, k, first, begin, end);
  if (first < k) spmm_rows<1>(crow, ccol, values, x, y, k, first, begin, end);
}

template <bool Permuted, bool Conj, class Index, class T>
void spmm_batch(const Index* crow, const Index* ccol, const Index* slots, const T* values,
                const T* x, T* y, const ProductShape& shape, int threads) {
  parallel_for_balanced(crow, shape.n_rows, threads,
                        [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = 0; b < shape.batch; ++b) {
      const Values<Index, T, Permuted, Conj> a{values + b * shape.value_stride, slots};
      spmm_columns(crow, ccol, a, x + b * shape.x_stride, y + b * shape.y_stride, shape.k, begin,
                   end);
    }
  });
}

}  // namespace detail

// y[b] = A[b] x[b]. crow [n_rows + 1], ccol [nnz]; values [batch|1, nnz]; x [batch|1, n_cols, k];
// y [batch, n_rows, k]. With `slots` [nnz] the value of slot e is values[slots[e]] (the transpose of
// a matrix, without a transposed copy of its values); with `conj` it is conjugated.
template <class Index, class T>
void spmm(const Index* crow, const Index* ccol, const Index* slots, const T* values, const T* x,
          T* y, const ProductShape& shape, bool conj, int threads) {
  if (slots && conj)
    detail::spmm_batch<true, true>(crow, ccol, slots, values, x, y, shape, threads);
  else if (slots)
    detail::spmm_batch<true, false>(crow, ccol, slots, values, x, y, shape, threads);
  else if (conj)
    detail::spmm_batch<false, true>(crow, ccol, slots, values, x, y, shape, threads);
  else
    detail::spmm_batch<false, false>(crow, ccol, slots, values, x, y, shape, threads);
}

// s[b, e] = sum over c of u[b, row of e, c] v[b, ccol[e], c], without conjugation, or less that.
// u [batch, n_rows, k]; v [batch, n_cols, k]; s [batch, nnz].
template <class Index, class T>
void sampled_product(const Index* crow, const Index* ccol, const T* u, const T* v, T* s,
                     std::int64_t batch, std::int64_t n_rows, std::int64_t n_cols, std::int64_t k,
                     bool negative, int threads) {
  const std::int64_t nnz = crow[n_rows];
  const auto entry = [negative](const T* row, const T* column, std::int64_t length) {
    T sum = T(0);
    for (std::int64_t c = 0; c < length; ++c) Scalar<T>::add_product(sum, row[c], column[c]);
    return negative ? -sum : sum;
  };
  // Short rows cost more than their entries: many matrices share a list of whose row an entry is.
  std::vector<Index> row_of;
  if (k == 1 && batch > 1) {
    row_of.resize(nnz);
    for (std::int64_t i = 0; i < n_rows; ++i) std::fill(row_of.data() + crow[i], row_of.data() + crow[i + 1], Index(i));
  }
  parallel_for_balanced(crow, n_rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = 0; b < batch; ++b) {
      const T* left = u + b * n_rows * k;
      const T* right = v + b * n_cols * k;
      T* out = s + b * nnz;
      if (!row_of.empty()) {
        for (std::int64_t e = crow[begin]; e < crow[end]; ++e) out[e] = entry(left + row_of[e], right + ccol[e], 1);
        continue;
      }
      for (std::int64_t i = begin; i < end; ++i)
        if (k == 1) {  // the usual case: one right-hand side
          const T here = negative ? -left[i] : left[i];
          prefetch<4096>(ccol + crow[i]);
          prefetch<4096>(out + crow[i]);
          for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) {
            T sum = T(0);
            Scalar<T>::add_product(sum, here, right[ccol[e]]);
            out[e] = sum;
          }
        } else
          for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e)
            out[e] = entry(left + i * k, right + static_cast<std::int64_t>(ccol[e]) * k, k);
    }
  });
}

}  // namespace torch_sla
