#include <complex>

#include "check.hpp"
#include "torch_sla/csr.hpp"
#include "torch_sla/segments.hpp"
#include "torch_sla/spmm.hpp"

using namespace torch_sla;
using Complex = std::complex<double>;

// Small whole numbers, so that every sum is exact in any order.
template <class T>
std::vector<T> whole(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> out;
  for (std::int64_t i = 0; i < n; ++i) {
    const double re = static_cast<int>(random() % 9) - 4, im = static_cast<int>(random() % 9) - 4;
    if constexpr (std::is_same<T, Complex>::value)
      out.emplace_back(re, im);
    else
      out.push_back(static_cast<T>(re));
  }
  return out;
}

template <class T>
void check(std::int64_t m, std::int64_t n, std::int64_t entries, std::int64_t k, int threads) {
  const RandomMatrix given(m, n, entries, 1543);
  std::vector<int> crow(m + 1), ccol(entries), slot(entries);
  const std::int64_t nnz = coo_to_csr(given.row.data(), given.col.data(), entries, m, n,
                                      crow.data(), ccol.data(), slot.data(), 1);
  std::vector<int> row(nnz), offsets(nnz + 1), order(entries);
  expand_rows(crow.data(), m, row.data(), 1);
  segment_order(slot.data(), entries, nnz, offsets.data(), order.data(), threads);

  // Duplicates add up, and the gather is the adjoint of the sum.
  const std::int64_t batch = 2;
  const auto given_values = whole<T>(batch * entries, 31), probe = whole<T>(batch * nnz, 37);
  std::vector<T> values(batch * nnz), gathered(batch * entries);
  segment_sum(offsets.data(), order.data(), given_values.data(), values.data(), batch, entries, nnz,
              1, threads);
  gather(slot.data(), probe.data(), gathered.data(), batch, entries, nnz, 1, threads);
  T left(0), right(0);
  for (std::int64_t i = 0; i < batch * nnz; ++i) left += values[i] * probe[i];
  for (std::int64_t j = 0; j < batch * entries; ++j) right += given_values[j] * gathered[j];
  CHECK(left == right);

  // Products against triple loops: shared and own values, permuted and conjugated.
  const auto x = whole<T>(batch * n * k, 41);
  std::vector<int> reversed(nnz);
  for (std::int64_t e = 0; e < nnz; ++e) reversed[e] = static_cast<int>(nnz - 1 - e);
  for (const bool shared : {false, true})
    for (const bool permuted : {false, true})
      for (const bool conj : {false, true}) {
        std::vector<T> y(batch * m * k, T(99)), expected(batch * m * k, T(0));
        const ProductShape shape{batch, m, k, shared ? 0 : nnz, n * k, m * k};
        spmm(crow.data(), ccol.data(), permuted ? reversed.data() : nullptr, values.data(), x.data(),
             y.data(), shape, conj, threads);
        for (std::int64_t b = 0; b < batch; ++b)
          for (std::int64_t e = 0; e < nnz; ++e)
            for (std::int64_t c = 0; c < k; ++c) {
              T a = values[(shared ? 0 : b * nnz) + (permuted ? reversed[e] : e)];
              if (conj) a = Scalar<T>::conj(a);
              expected[(b * m + row[e]) * k + c] += a * x[(b * n + ccol[e]) * k + c];
            }
        CHECK(y == expected);
      }

  const auto u = whole<T>(batch * m * k, 43);
  std::vector<T> sampled(batch * nnz), expected(batch * nnz, T(0));
  sampled_product(crow.data(), ccol.data(), u.data(), x.data(), sampled.data(), batch, m, n, k,
                  false, threads);
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t e = 0; e < nnz; ++e)
      for (std::int64_t c = 0; c < k; ++c)
        expected[b * nnz + e] += u[(b * m + row[e]) * k + c] * x[(b * n + ccol[e]) * k + c];
  CHECK(sampled == expected);
  sampled_product(crow.data(), ccol.data(), u.data(), x.data(), sampled.data(), batch, m, n, k,
                  true, threads);
  for (T& s : expected) s = -s;
  CHECK(sampled == expected);
}

int main() {
  for (int threads : {1, 3})
    for (std::int64_t k : {0, 1, 2, 3, 5, 8, 15}) {
      check<double>(9, 6, 40, k, threads);
      check<double>(3, 5, 0, k, threads);
      check<Complex>(6, 11, 70, k, threads);
    }
  return failures();
}
