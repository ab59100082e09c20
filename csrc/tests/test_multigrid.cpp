// Multigrid by aggregation and by points: symmetry of the cycle, both set-ups, blocks, near-nullspaces, tied rows.
#include <map>

#include "multigrid_runs.hpp"

namespace {

// The block of a node in SPAI-0 is the one of least squares, M S = D^T, or its symmetric part; that of dependent rows has
// their weights as scalar rows.
void node_blocks() {
  const double rows[2][4] = {{1.0, 5.0, 0.25, 0.0}, {-5.0, 1.0, 0.0, 0.5}}, D[4] = {1.0, 5.0, -5.0, 1.0};
  double S[4] = {}, M[4];
  for (int e = 0; e < 4; ++e)
    for (int k = 0; k < 4; ++k) S[e] += rows[e / 2][k] * rows[e % 2][k];
  expect(least_squares_block<2>(S, D, false, M, 2), "rows that differ have a block");
  for (int r = 0; r < 2; ++r)
    for (int c = 0; c < 2; ++c)
      expect(std::abs(M[r * 2] * S[c] + M[r * 2 + 1] * S[2 + c] - D[c * 2 + r]) < 1e-14, "the block of least squares");
  double part[4];
  expect(least_squares_block<2>(S, D, true, part, 2), "rows that differ have a symmetric block");
  for (int e = 0; e < 4; ++e)
    expect(std::abs(part[e] - 0.5 * (M[e] + M[e % 2 * 2 + e / 2])) < 1e-15, "its symmetric part");
  const double same[4] = {5.0, 10.0, 10.0, 20.0}, own[4] = {1.0, 2.0, 2.0, 4.0}, none[4] = {0.0, 2.0, 0.0, 4.0};
  expect(least_squares_block<2>(same, own, false, M, 2) && std::abs(M[0] - 0.2) < 1e-15 &&
             M[1] == 0.0 && M[2] == 0.0 && std::abs(M[3] - 0.2) < 1e-15,
         "dependent rows have weights of their own");
  expect(!least_squares_block<2>(same, none, false, M, 2), "a row without a diagonal has none");
}

// One constant for each row of a block, and smooth vectors beyond those.
NearNullspace<float> vectors(std::int64_t n, int block, int columns) {
  NearNullspace<float> out;
  out.columns = columns;
  if (columns == block) return out;
  out.values.resize(n * columns);
  for (std::int64_t i = 0; i < n; ++i)
    for (int c = 0; c < columns; ++c)
      out.values[i * columns + c] = c < block ? float(i % block == c) : float(std::sin(0.02 * (c + 1) * double(i)));
  return out;
}

void aggregates(int n0, int n1, int n2, int block, Smoother smoother, Cycle cycle, int threads,
                bool classical = false, int more = 0) {
  const int columns = block + more;
  const Csr A = laplacian(n0, n1, n2);
  Hierarchy<float, int> h;
  h.options.classical = classical;
  h.options.coarse_size = 20;
  h.options.smoother = smoother;
  h.options.cycle = cycle;
  h.levels.emplace_back();
  const Source<int> source{A.ptr.data(), A.col.data(), A.rows()};
  load_pattern(h.levels[0].A, source, block);
  load_values(h, source, A.val.data(), threads);
  build(h, vectors(A.rows(), block, columns), threads);
  Workspace<float> work;
  CycleRunner<float, int> run(h, nullptr, work, threads);
  solve(A, run, threads, 60, "smoothed aggregation converges");
  if (cycle != Cycle::K) {
    Workspace<Lanes<float, 4>> several;
    CycleRunner<float, int, Lanes<float, 4>> wide(h, nullptr, several, threads);
    solve_lanes(A, run, wide, threads, "columns side by side around aggregates");
  }
  refresh(h, threads);
  solve(A, run, threads, 60, "smoothed aggregation converges after a refresh");
  const auto turned = adjoint(h);
  Workspace<float> other;
  CycleRunner<float, int> adjoint_run(h, &turned, other, threads);
  solve(A, adjoint_run, threads, 60, "the adjoint converges");
  if (cycle != Cycle::K) {
    solve_general(A, adjoint_run, threads, 80, "general methods around aggregates");
    Workspace<Lanes<float, 4>> several;
    CycleRunner<float, int, Lanes<float, 4>> wide(h, &turned, several, threads);
    general_lanes(A, adjoint_run, wide, threads, "general methods side by side around aggregates");
  }

  // Other numbers on the same patterns: those of a new set-up, to the last bit. First a multiple, then couplings
  // that become weak, then a row that is coupled to nothing any more, then a field that changes coarse couplings.
  Csr B = A;
  for (auto& v : B.val) v *= 3.0;
  for (int change = 0; change < 4; ++change) {
    for (int i = 0; i < 20 && change == 1; ++i)
      for (int s = B.ptr[i]; s < B.ptr[i + 1]; ++s)
        if (B.col[s] == i + 1) B.val[s] *= 1e-4;
    for (int i = 0; i < A.rows() && change == 2; ++i)
      for (int s = B.ptr[i]; s < B.ptr[i + 1]; ++s)
        if (i != B.col[s] && (i == 7 || B.col[s] == 7)) B.val[s] = 0.0;
    for (int i = 0; i < A.rows() && change == 3; ++i)
      for (int s = B.ptr[i]; s < B.ptr[i + 1]; ++s)
        B.val[s] = A.val[s] * (1.0 + 0.3 * std::sin(0.3 * i)) * (1.0 + 0.3 * std::sin(0.3 * B.col[s]));
    Hierarchy<float, int> renewed = skeleton(h), fresh;
    load_values(renewed, source, B.val.data(), threads);
    refresh(renewed, threads, true);
    fresh.options = h.options;
    fresh.levels.emplace_back();
    load_pattern(fresh.levels[0].A, source, block);
    load_values(fresh, source, B.val.data(), threads);
    build(fresh, vectors(A.rows(), block, columns), threads);
    expect(fresh.levels.size() == renewed.levels.size(), "the same number of levels");
    for (std::size_t i = 0; i < std::min(fresh.levels.size(), renewed.levels.size()); ++i)
      expect(fresh.levels[i].A.val == renewed.levels[i].A.val && fresh.levels[i].P.val == renewed.levels[i].P.val,
             "the same bits");
    // What was found is handed on: levels above a change are shared.
    if (change == 0 && fresh.levels.size() > 1) expect(renewed.levels[0].how == h.levels[0].how, "aggregates are kept");
  }
}

// Coefficients that differ from point to point by six orders of magnitude, in double precision.
void noise(int n0, int n1, int threads) {
  Csr A = laplacian(n0, n1, 1);
  std::vector<double> k(A.rows());
  std::uint32_t state = 12345;
  for (auto& v : k) {
    state = state * 1664525u + 1013904223u;
    v = std::pow(10.0, 6.0 * (state >> 8) / 16777216.0 - 3.0);
  }
  for (int i = 0; i < A.rows(); ++i) {
    double sum = i % n0 == 0 ? k[i] : 0.0;
    int own = -1;
    for (int s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      const int j = A.col[s];
      if (j == i) own = s;
      else sum += -(A.val[s] = -2.0 * k[i] * k[j] / (k[i] + k[j]));
    }
    A.val[own] = sum;
  }
  Hierarchy<double, int> h;
  h.options.classical = true;
  h.options.coarse_size = 30;
  h.levels.emplace_back();
  const Source<int> source{A.ptr.data(), A.col.data(), A.rows()};
  load_pattern(h.levels[0].A, source, 1);
  load_values(h, source, A.val.data(), threads);
  build(h, NearNullspace<double>(), threads);
  Workspace<double> work;
  CycleRunner<double, int> run(h, nullptr, work, threads);
  solve(A, run, threads, 25, "classical multigrid takes jumps from point to point");
}

// A cube with stiff conditions u1 - u2 + u3 - u4 = 0 on the corners of some squares, as flat cells bring them.
void tied(Smoother smoother, int threads) {
  const int n = 12, size = n * n * n;
  const Csr L = laplacian(n, n, n);
  std::vector<std::map<int, double>> rows(size);
  for (int i = 0; i < size; ++i)
    for (int s = L.ptr[i]; s < L.ptr[i + 1]; ++s) rows[i][L.col[s]] = L.val[s];
  int groups = 0;
  for (int z = 1; z + 1 < n; z += 3)
    for (int y = 1; y + 1 < n; y += 3)
      for (int x = 1; x + 1 < n; x += 3, ++groups) {
        const int first = x + n * (y + n * z), corner[4] = {first, first + 1, first + n + 1, first + n};
        for (int p = 0; p < 4; ++p)
          for (int q = 0; q < 4; ++q) rows[corner[p]][corner[q]] += (p + q) % 2 ? -1e3 : 1e3;
      }
  Csr A;
  for (const auto& row : rows) {
    for (const auto& [j, a] : row) A.col.push_back(j), A.val.push_back(a);
    A.ptr.push_back(static_cast<int>(A.col.size()));
  }
  Hierarchy<float, int> h;
  h.options.smoother = smoother;
  h.options.coarse_size = 30;
  h.levels.emplace_back();
  const Source<int> source{A.ptr.data(), A.col.data(), A.rows()};
  load_pattern(h.levels[0].A, source, 1);
  load_values(h, source, A.val.data(), threads);
  build(h, NearNullspace<float>(), threads);
  const auto& found = h.levels[0].M.tied;
  expect(found.count() == groups && static_cast<int>(found.row.size()) == 4 * groups, "the corners of flat cells are tied");
  Workspace<float> work;
  CycleRunner<float, int> run(h, nullptr, work, threads);
  solve(A, run, threads, 20, "stiff conditions do not slow a smoother down");
}

}  // namespace

int main() {
  for (int threads = 1; threads <= 3; ++threads) {
    noise(40, 40, threads);
    for (const Smoother s : {Smoother::jacobi, Smoother::l1_jacobi, Smoother::spai0, Smoother::chebyshev,
                             Smoother::gauss_seidel})
      tied(s, threads);
    aggregates(14, 9, 5, 1, Smoother::spai0, Cycle::V, threads, true);
    aggregates(30, 31, 1, 1, Smoother::gauss_seidel, Cycle::W, threads, true);
    for (const Smoother s : {Smoother::jacobi, Smoother::l1_jacobi, Smoother::spai0,
                             Smoother::chebyshev, Smoother::gauss_seidel})
      for (const Cycle c : {Cycle::V, Cycle::W, Cycle::K})
        for (const int block : {1, 2, 3, 4, 6}) aggregates(12, 10, 4, block, s, c, threads);
    aggregates(300, 220, 1, 1, Smoother::spai0, Cycle::W, threads);
    aggregates(60, 40, 1, 2, Smoother::chebyshev, Cycle::W, threads, false, 1);
    aggregates(45, 20, 1, 3, Smoother::chebyshev, Cycle::V, threads, false, 3);
  }
  node_blocks();
  std::vector<double> singular{2, -2, -2, 2};
  double pivot = 1.0;
  expect(pseudo_invert(singular, 2, 1e-10, &pivot) == 1, "the null space is found");
  expect(std::abs(singular[0] - 0.125) < 1e-14, "the pseudo-inverse is the one of Moore and Penrose");
  return failures();
}
