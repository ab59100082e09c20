// P^T A P through its map: against dense numbers, for rows of every width and any number of threads.
#include <cmath>
#include <map>
#include <utility>

#include "check.hpp"
#include "torch_sla/multigrid/galerkin.hpp"

using namespace torch_sla::multigrid;

namespace {

using Matrix = BlockMatrix<double, int>;

// `wide` rows have an entry in every column, the others about `entries`, sorted; values repeat nothing.
Matrix matrix(int rows, int cols, int br, int bc, int entries, int wide, bool diagonal, unsigned seed) {
  std::mt19937 random(seed);
  Matrix A;
  A.rows = rows;
  A.cols = cols;
  A.br = br;
  A.bc = bc;
  A.own_ptr.push_back(0);
  for (int i = 0; i < rows; ++i) {
    std::map<int, bool> found;
    if (diagonal) found[i] = true;
    for (int e = 0; e < entries; ++e) found[static_cast<int>(random() % static_cast<unsigned>(cols))] = true;
    for (int c = 0; i < wide && c < cols; ++c) found[c] = true;
    for (const auto& f : found) A.own_col.push_back(f.first);
    A.own_ptr.push_back(static_cast<int>(A.own_col.size()));
  }
  for (std::size_t e = 0; e < A.own_col.size() * br * bc; ++e)
    A.val.push_back(double(random() % 2001) / 1000.0 - 1.0);
  A.adopt();
  return A;
}

template <int B, int K>
Matrix product(const Matrix& A, const Matrix& P, std::size_t kind, int threads) {
  Matrix C;
  const ProductMap map = product_map(A, P, C, threads);
  CHECK(map.places.index() == kind);
  CHECK(map.bytes() > 0);
  galerkin<B, K>(A, P, C, map, threads);
  return C;
}

template <int B, int K>
void against_dense(const Matrix& A, const Matrix& P, std::size_t kind) {
  const int b = A.br, k = P.bc;
  const Matrix C = product<B, K>(A, P, kind, 1);
  std::map<std::pair<int, int>, std::vector<double>> dense;
  for (int g = 0; g < P.cols; ++g) dense[{g, g}].assign(std::size_t(k) * k, 0.0);
  for (int i = 0; i < A.rows; ++i)
    for (int s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      for (int t = P.ptr[i]; t < P.ptr[i + 1]; ++t)
        for (int u = P.ptr[A.col[s]]; u < P.ptr[A.col[s] + 1]; ++u) {
          auto& to = dense[{P.col[t], P.col[u]}];
          to.resize(std::size_t(k) * k, 0.0);
          for (int r = 0; r < k; ++r)
            for (int c = 0; c < k; ++c)
              for (int p = 0; p < b; ++p)
                for (int q = 0; q < b; ++q)
                  to[r * k + c] += P.val[(t * b + p) * k + r] * A.val[(s * b + p) * b + q] * P.val[(u * b + q) * k + c];
        }
  if (k > 1)  // what no row interpolates from is the identity
    for (int g = 0; g < P.cols; ++g)
      for (int c = 0; c < k; ++c)
        if (dense[{g, g}][c * k + c] == 0.0) dense[{g, g}][c * k + c] = 1.0;
  CHECK(C.nnz() == static_cast<std::int64_t>(dense.size()));
  double apart = 0.0;
  for (int g = 0; g < C.rows; ++g) {
    CHECK(C.col[C.ptr[g]] == g);  // the diagonal comes first
    for (int s = C.ptr[g]; s < C.ptr[g + 1]; ++s) {
      const auto found = dense.find({g, C.col[s]});
      CHECK(found != dense.end());
      if (found == dense.end()) return;
      for (int e = 0; e < k * k; ++e) apart = std::max(apart, std::abs(found->second[e] - C.val[s * k * k + e]));
    }
  }
  CHECK(apart < 1e-10);
}

}  // namespace

int main() {
  against_dense<1, 1>(matrix(200, 200, 1, 1, 6, 0, true, 1), matrix(200, 60, 1, 1, 2, 0, false, 2), 0);
  against_dense<0, 0>(matrix(90, 90, 2, 2, 4, 0, true, 3), matrix(90, 30, 2, 3, 2, 0, false, 4), 0);
  against_dense<3, 6>(matrix(60, 60, 3, 3, 4, 0, true, 5), matrix(60, 15, 3, 6, 1, 0, false, 6), 0);
  // Rows of A P, and then rows of C only, that are longer than a byte counts.
  against_dense<1, 1>(matrix(400, 400, 1, 1, 3, 2, true, 7), matrix(400, 900, 1, 1, 1, 0, false, 8), 1);
  against_dense<1, 1>(matrix(600, 600, 1, 1, 2, 0, true, 9), matrix(600, 500, 1, 1, 40, 0, false, 10), 1);
  against_dense<1, 1>(matrix(5, 5, 1, 1, 1, 0, false, 11), matrix(5, 2, 1, 1, 0, 0, false, 12), 0);  // no transfer

  const Matrix A = matrix(30000, 30000, 1, 1, 12, 0, true, 13), P = matrix(30000, 5000, 1, 1, 2, 0, false, 14);
  const Matrix one = product<1, 1>(A, P, 1, 1), three = product<1, 1>(A, P, 1, 3);
  CHECK(std::equal(one.ptr, one.ptr + one.rows + 1, three.ptr));
  CHECK(std::equal(one.col, one.col + one.nnz(), three.col));
  CHECK(one.val == three.val);
  return failures();
}
