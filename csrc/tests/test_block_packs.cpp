// Blocks taken in packs against one number after the other: every size that is dispatched, in both precisions.
#include <algorithm>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "torch_sla/multigrid/galerkin.hpp"
#include "torch_sla/multigrid/smoothers.hpp"

using namespace torch_sla::multigrid;

namespace {

template <class V>
std::vector<V> numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<V> out(count);
  for (auto& v : out) v = V(double(random() % 2001) / 1000.0 - 1.0);
  return out;
}

// Rows of 0 to 40 blocks, the last block of the matrix in its last column: nothing beyond the arrays is read.
template <int B, class V>
void rows() {
  constexpr int columns = 41;
  const std::vector<V> x = numbers<V>(columns * B, 7);
  for (int count : {0, 1, 2, 27, 40}) {
    BlockMatrix<V, int> A;
    A.rows = 1;
    A.cols = columns;
    A.br = A.bc = B;
    A.own_ptr = {0, count};
    for (int s = 0; s < count; ++s) A.own_col.push_back(columns - count + s);
    const std::vector<V> val = numbers<V>(std::size_t(count) * B * B, 11);
    A.val.assign(val.begin(), val.end());
    A.adopt();
    V acc[B];
    double exact[B], size = 1.0;
    for (int r = 0; r < B; ++r) {
      acc[r] = V(r) - V(0.25);
      exact[r] = double(acc[r]);
      for (int s = 0; s < count; ++s)
        for (int c = 0; c < B; ++c) {
          const double term = double(val[(s * B + r) * B + c]) * double(x[A.col[s] * B + c]);
          exact[r] -= term;
          size += std::abs(term);
        }
    }
    subtract_row<B>(A, 0, x.data(), acc, B);
    for (int r = 0; r < B; ++r)
      CHECK(std::abs(double(acc[r]) - exact[r]) <= 4.0 * size * std::numeric_limits<V>::epsilon());
  }
}

// The sums of a product come in the same order either way: not a bit differs, but for fused operations.
template <int M, int N, int K, bool Turned, class V>
void products() {
  const std::vector<V> X = numbers<V>(M * N, 3), Y = numbers<V>(3 * N * K, 5);
  std::vector<V> one = numbers<V>(M * K, 9), other = one;
  const auto product = block_product<M, N, K, Turned>(X.data(), M, N, K);
  for (int y = 0; y < 3; ++y) {
    product.add(Y.data() + y * N * K, one.data());
    multiply_add<M, N, K, Turned>(X.data(), Y.data() + y * N * K, other.data(), M, N, K);
  }
  for (int e = 0; e < M * K; ++e)
    CHECK(std::abs(double(one[e]) - double(other[e])) <= 3 * N * std::numeric_limits<V>::epsilon());
}

template <class V>
void all() {
  rows<1, V>();
  rows<2, V>();
  rows<3, V>();
  rows<6, V>();
  products<1, 1, 1, false, V>();
  products<2, 2, 2, false, V>();
  products<2, 2, 3, false, V>();
  products<3, 3, 3, false, V>();
  products<3, 3, 6, false, V>();
  products<6, 6, 6, false, V>();
  products<2, 2, 2, true, V>();
  products<3, 2, 3, true, V>();
  products<3, 3, 3, true, V>();
  products<6, 3, 6, true, V>();
  products<6, 6, 6, true, V>();
}

}  // namespace

int main() {
  all<float>();
  all<double>();
  return failures();
}
