// Kernels of multigrid on small matrices: symmetry of the cycle, both set-ups, edges of every length.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <vector>

#include "torch_sla/multigrid.hpp"

using namespace torch_sla::multigrid;

namespace {

int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("failed: %s\n", what);
  ++failures;
}

struct Csr {
  std::vector<int> ptr{0}, col;
  std::vector<double> val;
  std::int64_t rows() const { return static_cast<std::int64_t>(ptr.size()) - 1; }
};

// Laplacian with 2 dim + 1 entries a row on n0 x n1 x n2 points, zero beyond the edges.
Csr laplacian(int n0, int n1, int n2) {
  Csr A;
  const int n[3] = {n0, n1, n2}, stride[3] = {1, n0, n0 * n1};
  for (int i = 0; i < n0 * n1 * n2; ++i) {
    const int x[3] = {i % n0, i / n0 % n1, i / (n0 * n1)};
    for (int s = 2; s >= 0; --s)
      if (x[s] > 0) A.col.push_back(i - stride[s]), A.val.push_back(-1.0);
    A.col.push_back(i), A.val.push_back(2.0 * ((n0 > 1) + (n1 > 1) + (n2 > 1)));
    for (int s = 0; s < 3; ++s)
      if (x[s] + 1 < n[s]) A.col.push_back(i + stride[s]), A.val.push_back(-1.0);
    A.ptr.push_back(static_cast<int>(A.col.size()));
  }
  return A;
}

template <class Runner>
void solve(const Csr& A, Runner& run, int threads, int most, const char* what, const Offsets* offsets = nullptr) {
  const std::int64_t n = A.rows();
  std::vector<double> b(n), x(n);
  for (std::int64_t i = 0; i < n; ++i) b[i] = std::sin(0.7 * double(i) + 0.1);
  const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads, offsets};
  const auto report =
      conjugate_gradients(rows, b.data(), x.data(), true, run, SolveOptions(), static_cast<const double*>(nullptr), 0);
  expect(report.status == Status::converged && report.iterations <= most, what);
  std::vector<double> r(n);
  const double left = rows.residual(b.data(), x.data(), r.data());
  const auto largest = [](const std::vector<double>& v) {
    double most_of = 0.0;
    for (const double e : v) most_of = std::max(most_of, std::abs(e));
    return most_of;
  };
  const std::array<double, 4> sizes{largest(r), largest(x), largest(b), rows.norm(b.data())};
  expect(report.sizes && std::abs(left - report.residual) <= 1e-12 * left, "the residual is the true one");
  for (int k = 0; k < 4; ++k)
    expect(std::abs((*report.sizes)[k] - sizes[k]) <= 1e-12 * sizes[k], "sizes of the solution");
}

// Columns side by side, one of them zero, find what one after the other finds; so does the cycle alone.
template <class Runner, class Wide>
void solve_lanes(const Csr& A, Runner& run, Wide& wide, int threads, const char* what,
                 const Offsets* offsets = nullptr) {
  constexpr int lanes = 4, k = 3;
  const std::int64_t n = A.rows();
  std::vector<double> b(n * k), x(n * k), own(n), z(n);
  for (std::int64_t i = 0; i < n; ++i)
    for (int c = 0; c < k; ++c) b[i * k + c] = c == 1 ? 0.0 : std::sin((0.7 + c) * double(i) + 0.1);
  std::array<bool, lanes> solved{};
  const SolveOptions o;
  const Rows<double, int> together_rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads, offsets};
  LaneSystem<lanes, double, int, Wide> system(together_rows, b.data(), x.data(), k, 0, k, true, wide, o);
  lane_gradients(system);
  const auto reports = system.finish(x.data(), solved);
  for (int c = 0; c < k; ++c) {
    for (std::int64_t i = 0; i < n; ++i) z[i] = b[i * k + c];
    const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads};
    const auto one = conjugate_gradients(rows, z.data(), own.data(), true, run, SolveOptions(),
                                         static_cast<const double*>(nullptr), 0);
    double apart = 0.0, size = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      apart = std::max(apart, std::abs(own[i] - x[i * k + c]));
      size = std::max(size, std::abs(own[i]));
    }
    expect(solved[c] && reports[c].status == Status::converged && apart <= 1e-6 * size, what);
    expect(std::abs(reports[c].iterations - one.iterations) <= 1, what);
  }
  std::vector<double> together(n * k), alone(n * k);
  apply_lanes<lanes>(wide, b.data(), together.data(), n, k, 0, k, 1.0, threads);
  for (int c = 0; c < k; ++c) apply(run, b.data() + c, alone.data() + c, n, k, 1.0, threads);
  double apart = 0.0, size = 0.0;
  for (std::int64_t e = 0; e < n * k; ++e) {
    apart = std::max(apart, std::abs(together[e] - alone[e]));
    size = std::max(size, std::abs(alone[e]));
  }
  expect(apart <= 1e-5 * size, "a cycle on columns side by side");
}

// Both methods for general matrices, forward and around the transposed cycle.
template <class Runner>
void solve_general(const Csr& A, Runner& run, int threads, int most, const char* what,
                   const Offsets* offsets = nullptr) {
  const std::int64_t n = A.rows();
  std::vector<double> b(n), x(n), r(n);
  for (std::int64_t i = 0; i < n; ++i) b[i] = std::cos(0.3 * double(i));
  const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads, offsets};
  SolveOptions o;
  o.restart = 8;
  const auto first = gmres(rows, b.data(), x.data(), true, run, o);
  expect(first.status == Status::converged && first.iterations <= most, what);
  expect(rows.residual(b.data(), x.data(), r.data()) <= 1.001e-8 * rows.norm(b.data()), what);
  const auto second = bicgstab(rows, b.data(), x.data(), true, run, o);
  expect(second.status == Status::converged && second.iterations <= most, what);
  o.maxiter = 1;
  expect(gmres(rows, b.data(), x.data(), true, run, o).status == Status::maxiter, "gmres stops");
  expect(bicgstab(rows, b.data(), x.data(), true, run, o).status == Status::maxiter, "bicgstab stops");
}

// The same side by side: three columns in four lanes, one of them zero.
template <class Runner, class Wide>
void general_lanes(const Csr& A, Runner& run, Wide& wide, int threads, const char* what) {
  constexpr int lanes = 4, k = 3;
  const std::int64_t n = A.rows();
  std::vector<double> b(n * k), x(n * k), own(n), z(n);
  for (std::int64_t i = 0; i < n; ++i)
    for (int c = 0; c < k; ++c) b[i * k + c] = c == 1 ? 0.0 : std::cos((0.3 + c) * double(i));
  const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads};
  SolveOptions o;
  o.restart = 8;
  for (const bool minimal : {true, false}) {
    LaneSystem<lanes, double, int, Wide> system(rows, b.data(), x.data(), k, 0, k, true, wide, o);
    if (minimal) lane_gmres(system);
    else lane_bicgstab(system);
    std::array<bool, lanes> solved{};
    const auto reports = system.finish(x.data(), solved);
    for (int c = 0; c < k; ++c) {
      for (std::int64_t i = 0; i < n; ++i) z[i] = b[i * k + c];
      const auto one = minimal ? gmres(rows, z.data(), own.data(), true, run, o)
                               : bicgstab(rows, z.data(), own.data(), true, run, o);
      double apart = 0.0, size = 0.0;
      for (std::int64_t i = 0; i < n; ++i) {
        apart = std::max(apart, std::abs(own[i] - x[i * k + c]));
        size = std::max(size, std::abs(own[i]));
      }
      expect(solved[c] && reports[c].status == Status::converged && apart <= 1e-6 * size, what);
      expect(std::abs(reports[c].iterations - one.iterations) <= 1, what);
    }
  }
}

void lattice(int n0, int n1, int n2, int threads, bool lines = false, Cycle cycle = Cycle::V) {
  const Csr A = laplacian(n0, n1, n2);
  const Shape shape = detect_lattice(A.ptr.data(), A.col.data(), A.rows());
  expect(shape.size() == A.rows(), "a lattice is found");
  if (shape.size() != A.rows()) return;
  LatticeHierarchy<float> h;
  h.options.coarse_size = 30;
  h.options.lines = lines;
  h.options.cycle = cycle;
  h.levels.emplace_back();
  h.levels[0].A.allocate(shape, decode(distinct_offsets(A.ptr.data(), A.col.data(), A.rows()), shape));
  const Source<int> source{A.ptr.data(), A.col.data(), A.rows()};
  load_lattice(h, source, A.val.data(), threads);
  build_lattice(h, threads);
  LatticeWorkspace<float> work;
  LatticeRunner<float> run(h, nullptr, work, threads);
  const Offsets offsets = offsets_of(h.levels[0].A);
  solve(A, run, threads, 14, "structured multigrid converges");
  solve(A, run, threads, 14, "structured multigrid converges, columns not read", &offsets);
  if (cycle != Cycle::K) {
    LatticeWorkspace<Lanes<float, 4>> several;
    LatticeRunner<float, Lanes<float, 4>> wide(h, nullptr, several, threads);
    solve_lanes(A, run, wide, threads, "columns side by side on a lattice");
    solve_lanes(A, run, wide, threads, "columns side by side on a lattice, columns not read", &offsets);
  }
  // Other numbers, halving the axes of before or those of a new set-up: here the same.
  LatticeHierarchy<float> renewed = lattice_skeleton(h);
  load_lattice(renewed, source, A.val.data(), threads);
  build_lattice(renewed, threads);
  expect(renewed.levels.size() == h.levels.size(), "a renewed lattice has the same levels");
  for (std::size_t i = 0; i < h.levels.size(); ++i)
    expect(renewed.levels[i].A.val == h.levels[i].A.val && renewed.levels[i].M == h.levels[i].M, "the same bits");
  build_lattice(h, threads, true);
  solve(A, run, threads, 14, "structured multigrid converges after a refresh");
  const auto adjoint = lattice_adjoint(h);
  LatticeWorkspace<float> other;
  LatticeRunner<float> turned(h, &adjoint, other, threads);
  solve(A, turned, threads, 14, "the adjoint of a symmetric cycle converges");
  if (cycle != Cycle::K) {
    solve_general(A, turned, threads, 20, "general methods on a lattice");
    expect(offsets.hold(A.ptr.data(), A.col.data(), A.rows()), "rows of the lattice are its own");
    solve_general(A, turned, threads, 20, "general methods on a lattice, columns not read", &offsets);
    LatticeWorkspace<Lanes<float, 4>> several;
    LatticeRunner<float, Lanes<float, 4>> wide(h, &adjoint, several, threads);
    general_lanes(A, turned, wide, threads, "general methods side by side on a lattice");
  }
}

// Rows read by offsets, some of them with entries missing, give the product that columns give; so they do behind
// what makes the vector, which sees each row once.
void rows_by_offsets(int n0, int n1, int n2, int threads) {
  Csr A = laplacian(n0, n1, n2), some;
  const std::int64_t n = A.rows();
  for (std::int64_t i = 0; i < n; ++i) {
    for (int s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      if (i % 1009 || A.col[s] == i) some.col.push_back(A.col[s]), some.val.push_back(std::sin(double(s)));
    some.ptr.push_back(static_cast<int>(some.col.size()));
  }
  Stencil<float> stencil;
  const Shape shape{{n0, n1, n2}};
  stencil.allocate(shape, decode(distinct_offsets(A.ptr.data(), A.col.data(), n), shape));
  const Offsets offsets = offsets_of(stencil);
  std::vector<double> x(n), known(n), y(n);
  for (std::int64_t i = 0; i < n; ++i) x[i] = std::cos(double(i));
  const auto f = [&](std::int64_t i, double ax, std::array<double, 1>& s) {
    s[0] += ax * x[i];
    return ax;
  };
  Rows<double, int> rows{some.ptr.data(), some.col.data(), some.val.data(), n, threads};
  const double dot = rows.multiply<1>(x.data(), known.data(), f)[0];
  rows.lattice = &offsets;
  const double found = rows.multiply<1>(x.data(), y.data(), f)[0];
  expect(y == known && std::abs(found - dot) <= 1e-10 * double(n), "rows read by offsets");
  std::vector<double> made(n, 0.0);
  std::vector<char> times(n, 0);
  const auto first = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) made[i] = std::cos(double(i)), ++times[i];
  };
  for (const Offsets* how : {&offsets, static_cast<const Offsets*>(nullptr)}) {
    std::fill(made.begin(), made.end(), 0.0);
    std::fill(times.begin(), times.end(), 0);
    std::fill(y.begin(), y.end(), 0.0);
    rows.lattice = how;
    const double behind = rows.multiply_after<1>(first, made.data(), y.data(), f)[0];
    expect(y == known && std::abs(behind - dot) <= 1e-10 * double(n), "rows right behind their vector");
    expect(times == std::vector<char>(n, 1), "each row of the vector is made once");
  }
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

// Values become stencils, scaled by the largest of them wherever it lies; none that is not finite passes.
void loaded(int n0, int n1, int n2, int threads) {
  Csr A = laplacian(n0, n1, n2);
  const Source<int> source{A.ptr.data(), A.col.data(), A.rows()};
  const Shape shape = detect_lattice(A.ptr.data(), A.col.data(), A.rows());
  for (const double last : {1.0, 1e12, 1e-12}) {
    for (std::int64_t i = 0; i < A.rows(); ++i)
      for (int s = A.ptr[i]; s < A.ptr[i + 1]; ++s) A.val[s] = std::cos(double(s)) * (2 * i < A.rows() ? 1.0 : last);
    LatticeHierarchy<float> h;
    h.levels.emplace_back();
    auto& S = h.levels[0].A;
    S.allocate(shape, decode(distinct_offsets(A.ptr.data(), A.col.data(), A.rows()), shape));
    load_lattice(h, source, A.val.data(), threads);
    expect(h.scale == power_scale(A.val.data(), A.ptr.back(), threads), "the scale is that of all values");
    const auto offsets = S.offsets();
    bool equal = true;
    for (std::int64_t i = 0; i < A.rows(); ++i) {
      int s = A.ptr[i];
      for (int k = 0; k < S.entries.count; ++k) {
        const bool there = s < A.ptr[i + 1] && A.col[s] == i + offsets[k];
        equal &= S.at(i, k) == (there ? float(A.val[s] * h.scale) : 0.0f);
        s += there;
      }
    }
    expect(equal, "stencils hold the values of the rows");
    for (const double bad : {INFINITY, NAN})
      for (const std::size_t at : {std::size_t(0), A.val.size() / 2, A.val.size() - 1}) {
        auto values = A.val;
        values[at] = bad;
        bool thrown = false;
        try {
          load_lattice(h, source, values.data(), threads);
        } catch (const std::overflow_error&) {
          thrown = true;
        }
        expect(thrown, "a value that is not finite is refused");
      }
  }
}

int main() {
  for (int threads = 1; threads <= 3; ++threads) {
    for (int n0 = 3; n0 <= 9; ++n0) lattice(n0, 1, 17, threads);
    for (int n1 = 3; n1 <= 6; ++n1) lattice(11, n1, 7, threads);
    lattice(12, 5, 2, threads);
    for (const Cycle c : {Cycle::V, Cycle::W, Cycle::K})
      for (const bool lines : {false, true}) {
        lattice(23, 1, 31, threads, lines, c);
        lattice(9, 8, 7, threads, lines, c);
      }
    noise(40, 40, threads);
    for (const Smoother s : {Smoother::jacobi, Smoother::l1_jacobi, Smoother::spai0, Smoother::chebyshev,
                             Smoother::gauss_seidel})
      tied(s, threads);
    loaded(83, 1, 91, threads);
    loaded(19, 17, 23, threads);
    loaded(5, 4, 3, threads);
    rows_by_offsets(83, 1, 91, threads);
    rows_by_offsets(19, 17, 23, threads);
    rows_by_offsets(4, 3, 2, threads);
    aggregates(14, 9, 5, 1, Smoother::spai0, Cycle::V, threads, true);
    aggregates(30, 31, 1, 1, Smoother::gauss_seidel, Cycle::W, threads, true);
    lattice(160, 1, 131, threads);
    lattice(41, 40, 30, threads);
    for (const Smoother s : {Smoother::jacobi, Smoother::l1_jacobi, Smoother::spai0,
                             Smoother::chebyshev, Smoother::gauss_seidel})
      for (const Cycle c : {Cycle::V, Cycle::W, Cycle::K})
        for (const int block : {1, 2, 3, 4, 6}) aggregates(12, 10, 4, block, s, c, threads);
    aggregates(300, 220, 1, 1, Smoother::spai0, Cycle::W, threads);
    aggregates(60, 40, 1, 2, Smoother::chebyshev, Cycle::W, threads, false, 1);
    aggregates(45, 20, 1, 3, Smoother::chebyshev, Cycle::V, threads, false, 3);
  }
  std::vector<double> singular{2, -2, -2, 2};
  double pivot = 1.0;
  expect(pseudo_invert(singular, 2, 1e-10, &pivot) == 1, "the null space is found");
  expect(std::abs(singular[0] - 0.125) < 1e-14, "the pseudo-inverse is the one of Moore and Penrose");
  return failures ? 1 : 0;
}
