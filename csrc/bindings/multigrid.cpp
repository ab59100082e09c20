#include "arrays.hpp"
#include "torch_sla/multigrid.hpp"

#include <mutex>

namespace {

using namespace torch_sla_bindings;
namespace mg = torch_sla::multigrid;
using Index = std::int32_t;

mg::Smoother smoother_of(const std::string& name) {
  if (name == "jacobi") return mg::Smoother::jacobi;
  if (name == "l1_jacobi") return mg::Smoother::l1_jacobi;
  if (name == "spai0") return mg::Smoother::spai0;
  if (name == "chebyshev") return mg::Smoother::chebyshev;
  if (name == "gauss_seidel") return mg::Smoother::gauss_seidel;
  throw std::invalid_argument("no smoother is called " + name);
}

mg::Cycle cycle_of(const std::string& name) {
  if (name == "V") return mg::Cycle::V;
  if (name == "W") return mg::Cycle::W;
  if (name == "K") return mg::Cycle::K;
  throw std::invalid_argument("no cycle is called " + name);
}

const char* name_of(mg::Status status) {
  switch (status) {
    case mg::Status::converged: return "CONVERGED";
    case mg::Status::maxiter: return "MAXITER";
    case mg::Status::stagnation: return "STAGNATION";
    case mg::Status::breakdown: return "BREAKDOWN";
    default: return "NONFINITE";
  }
}

// A hierarchy with what its life depends on: the caller's index arrays, one set of work vectors, and
// a lock, because a cycle writes to the latter.
template <class V>
class Hierarchy {
 public:
  Hierarchy(Array<Index> crow, Array<Index> ccol, int block, double strength,
            const std::string& smoother, int sweeps, const std::string& cycle, int coarse_size,
            int max_levels)
      : crow_(std::move(crow)), ccol_(std::move(ccol)) {
    source_ = {crow_.data(), ccol_.data(), crow_.size() - 1};
    if (block < 1 || block > mg::kMaxBlock || source_.rows % block)
      throw std::invalid_argument("`block` does not divide the number of rows");
    expect_size(ccol_, source_.crow[source_.rows], "ccol");
    auto& o = h_.options;
    o.strength = strength;
    o.smoother = smoother_of(smoother);
    o.sweeps = sweeps;
    o.cycle = cycle_of(cycle);
    o.coarse_size = coarse_size;
    o.max_levels = max_levels;
    h_.levels.emplace_back();
    mg::load_pattern(h_.levels[0].A, source_, block);
  }

  template <class T>
  void build(const Array<T>& values, const std::optional<Array<V>>& near_nullspace, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    mg::NearNullspace<V> nullspace;
    nullspace.columns = h_.levels[0].A.br;
    if (near_nullspace) {
      if (near_nullspace->ndim() != 2 || near_nullspace->shape(0) != source_.rows ||
          near_nullspace->shape(1) > mg::kMaxBlock)
        throw std::invalid_argument("`near_nullspace` must be [n, k] with k at most 12");
      nullspace.columns = static_cast<int>(near_nullspace->shape(1));
      nullspace.values.assign(near_nullspace->data(),
                              near_nullspace->data() + near_nullspace->size());
    }
    const T* v = values.data();
    py::gil_scoped_release release;
    mg::load_values(h_, source_, v, threads);
    mg::build(h_, std::move(nullspace), threads);
  }

  // transfers: (crow, ccol, values [nnz, b, k], columns) of each level, first to last
  template <class T>
  void build_from(const Array<T>& values, const py::list& transfers, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    std::vector<mg::BlockMatrix<V, Index>> list;
    for (const auto& item : transfers) {
      const auto [ptr, col, val, columns] =
          item.cast<std::tuple<Array<Index>, Array<Index>, Array<V>, Index>>();
      mg::BlockMatrix<V, Index> P;
      P.rows = static_cast<Index>(ptr.size() - 1);
      P.cols = columns;
      P.br = static_cast<int>(val.shape(1));
      P.bc = static_cast<int>(val.shape(2));
      P.own_ptr.assign(ptr.data(), ptr.data() + ptr.size());
      P.own_col.assign(col.data(), col.data() + col.size());
      P.val.assign(val.data(), val.data() + val.size());
      P.adopt();
      list.push_back(std::move(P));
    }
    mg::load_values(h_, source_, values.data(), threads);
    mg::build_from(h_, std::move(list), threads);
  }

  template <class T>
  void update(const Array<T>& values, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    const T* v = values.data();
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> guard(lock_);
    adjoint_.reset();
    mg::load_values(h_, source_, v, threads);
    mg::refresh(h_, threads);
  }

  // z = B r, or its transpose, for each column of r [n, k].
  template <class T>
  void apply(const Array<T>& r, Array<T>& z, bool transposed, int threads) {
    const std::int64_t n = source_.rows, k = n ? r.size() / n : 0;
    expect_size(r, n * k, "r");
    expect_size(z, n * k, "z");
    const T* from = r.data();
    T* to = z.mutable_data();
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> guard(lock_);
    if (transposed && !adjoint_) adjoint_ = std::make_unique<mg::Adjoint<V, Index>>(mg::adjoint(h_));
    mg::CycleRunner<V, Index> run(h_, transposed ? adjoint_.get() : nullptr, work_, threads);
    for (std::int64_t c = 0; c < k; ++c) mg::apply(run, from + c, to + c, n, k, h_.scale, threads);
  }

  // Conjugate gradients for each column of b [n, k]; x holds the start and receives the solution.
  template <class T>
  py::list cg(const Array<T>& values, const Array<T>& b, Array<T>& x, bool zero_start, double rtol,
              double atol, int maxiter, const std::optional<Array<T>>& nullspace, int threads) {
    const std::int64_t n = source_.rows, k = n ? b.size() / n : 0;
    expect_size(values, source_.crow[n], "values");
    expect_size(b, n * k, "b");
    expect_size(x, n * k, "x");
    const int nullity = nullspace ? static_cast<int>(nullspace->size() / n) : 0;
    const T* basis = nullspace ? nullspace->data() : nullptr;
    const T *v = values.data(), *rhs = b.data();
    T* out = x.mutable_data();
    mg::SolveOptions o;
    o.rtol = rtol;
    o.atol = atol;
    o.maxiter = maxiter;
    o.flexible = h_.options.cycle == mg::Cycle::K;
    std::vector<mg::SolveReport> reports;
    {
      py::gil_scoped_release release;
      const std::lock_guard<std::mutex> guard(lock_);
      mg::CycleRunner<V, Index> run(h_, nullptr, work_, threads);
      mg::Buffer<T> column, start;
      for (std::int64_t c = 0; c < k; ++c) {
        const T* bc = rhs;
        T* xc = out;
        if (k > 1) {
          column.resize(n);
          start.resize(n);
          for (std::int64_t i = 0; i < n; ++i) {
            column[i] = rhs[i * k + c];
            start[i] = out[i * k + c];
          }
          bc = column.data();
          xc = start.data();
        }
        reports.push_back(mg::conjugate_gradients<T, V, Index>(
            source_.crow, source_.ccol, v, n, 1, bc, xc, zero_start, run, o, basis, nullity,
            threads));
        if (k > 1)
          for (std::int64_t i = 0; i < n; ++i) out[i * k + c] = xc[i];
      }
    }
    py::list result;
    for (const auto& r : reports)
      result.append(py::make_tuple(name_of(r.status), r.iterations, r.residual, r.history));
    return result;
  }

  py::list levels() const {
    py::list out;
    for (const auto& l : h_.levels)
      out.append(py::make_tuple(l.A.rows, l.A.br, l.A.nnz(), l.P.nnz()));
    return out;
  }

  // (crow, ccol, values) of the matrix or the transfer of one level, scaled as the level holds it
  py::tuple matrix(std::size_t level, bool transfer) const {
    if (level >= h_.levels.size()) throw std::invalid_argument("`level` is too large");
    const auto& l = h_.levels[level];
    const auto& A = transfer ? l.P : l.A;
    Array<Index> ptr(A.ptr ? A.rows + 1 : 0), col(A.nnz());
    Array<V> val({static_cast<py::ssize_t>(A.nnz()), static_cast<py::ssize_t>(A.br),
                  static_cast<py::ssize_t>(A.bc)});
    if (A.ptr) {
      std::copy(A.ptr, A.ptr + A.rows + 1, ptr.mutable_data());
      std::copy(A.col, A.col + A.nnz(), col.mutable_data());
      std::copy(A.val.begin(), A.val.end(), val.mutable_data());
    }
    return py::make_tuple(ptr, col, val, A.cols);
  }

  std::size_t nbytes() const { return h_.bytes() + work_.bytes(); }
  double scale() const { return h_.scale; }
  int coarse_nullity() const { return h_.coarse_inverse.empty() ? -1 : h_.coarse_nullity; }

 private:
  Array<Index> crow_, ccol_;
  mg::Source<Index> source_;
  mg::Hierarchy<V, Index> h_;
  std::unique_ptr<mg::Adjoint<V, Index>> adjoint_;
  mg::Workspace<V> work_;
  std::mutex lock_;
};

template <class V, class T>
void bind_values(py::class_<Hierarchy<V>>& c) {
  c.def("build", &Hierarchy<V>::template build<T>, array_arg("values"), py::arg("near_nullspace"),
        py::arg("threads"))
      .def("build_from", &Hierarchy<V>::template build_from<T>, array_arg("values"),
           py::arg("transfers"), py::arg("threads"))
      .def("update", &Hierarchy<V>::template update<T>, array_arg("values"), py::arg("threads"))
      .def("apply", &Hierarchy<V>::template apply<T>, array_arg("r"), array_arg("z"),
           py::arg("transposed"), py::arg("threads"))
      .def("cg", &Hierarchy<V>::template cg<T>, array_arg("values"), array_arg("b"), array_arg("x"),
           py::arg("zero_start"), py::arg("rtol"), py::arg("atol"), py::arg("maxiter"),
           py::arg("nullspace"), py::arg("threads"));
}

template <class V>
void bind_hierarchy(py::module_& m, const char* name) {
  py::class_<Hierarchy<V>> c(m, name);
  c.def(py::init<Array<Index>, Array<Index>, int, double, const std::string&, int,
                 const std::string&, int, int>(),
        array_arg("crow"), array_arg("ccol"), py::arg("block"), py::arg("strength"),
        py::arg("smoother"), py::arg("sweeps"), py::arg("cycle"), py::arg("coarse_size"),
        py::arg("max_levels"))
      .def("levels", &Hierarchy<V>::levels)
      .def("matrix", &Hierarchy<V>::matrix, py::arg("level"), py::arg("transfer"))
      .def_property_readonly("nbytes", &Hierarchy<V>::nbytes)
      .def_property_readonly("scale", &Hierarchy<V>::scale)
      .def_property_readonly("coarse_nullity", &Hierarchy<V>::coarse_nullity);
  bind_values<V, double>(c);
  bind_values<V, float>(c);
}

}  // namespace

void bind_multigrid(py::module_& m) {
  m.doc() = "Algebraic multigrid.";
  bind_hierarchy<double>(m, "Hierarchy64");
  bind_hierarchy<float>(m, "Hierarchy32");
}
