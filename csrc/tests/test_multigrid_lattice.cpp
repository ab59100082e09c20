// Multigrid on lattices: symmetry of the cycle, edges of every length, rows by offsets, values that become stencils.
#include <stdexcept>

#include "multigrid_runs.hpp"

namespace {

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

}  // namespace

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
    loaded(83, 1, 91, threads);
    loaded(19, 17, 23, threads);
    loaded(5, 4, 3, threads);
    rows_by_offsets(83, 1, 91, threads);
    rows_by_offsets(19, 17, 23, threads);
    rows_by_offsets(4, 3, 2, threads);
    lattice(160, 1, 131, threads);
    lattice(41, 40, 30, threads);
  }
  return failures();
}
