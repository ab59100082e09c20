// Algebraic multigrid for Python, with levels of type V.
#pragma once

#include "common.hpp"

namespace torch_sla_bindings {

template <class V>
class Hierarchy : public Common<V, Hierarchy<V>, mg::Workspace<V>, mg::CycleRunner<V, Index>,
                                mg::Adjoint<V, Index>, mg::Workspace<Columns<V>>,
                                mg::CycleRunner<V, Index, Columns<V>>> {
  using Base = Common<V, Hierarchy<V>, mg::Workspace<V>, mg::CycleRunner<V, Index>,
                      mg::Adjoint<V, Index>, mg::Workspace<Columns<V>>,
                      mg::CycleRunner<V, Index, Columns<V>>>;
  friend Base;
  using Base::source_;

 public:
  Hierarchy(Array<Index> crow, Array<Index> ccol, bool classical, int block, double strength,
            double damping, const std::string& smoother, bool symmetric, int sweeps, const std::string& cycle,
            int coarse_size, int max_levels)
      : Base(std::move(crow), std::move(ccol)) {
    if (block < 1 || block > mg::kMaxBlock || source_.rows % block)
      throw std::invalid_argument("`block` does not divide the number of rows");
    if (classical && block != 1) throw std::invalid_argument("classical coarsening is for scalars");
    auto& o = h_.options;
    o.classical = classical;
    o.strength = strength;
    o.damping = damping;
    o.smoother = smoother_of(smoother);
    o.symmetric = symmetric;
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
    const Released release;
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

  std::unique_ptr<Hierarchy> skeleton() const {
    return std::unique_ptr<Hierarchy>(new Hierarchy(this->crow_, this->ccol_, mg::skeleton(h_)));
  }
  template <class T>
  bool renew(const T* values, bool check, int threads) {
    mg::load_values(h_, source_, values, threads);
    mg::refresh(h_, threads, check);
    return true;
  }

  const mg::Offsets* offsets() const { return nullptr; }
  int fewest() const { return 2; }
  std::unique_ptr<mg::Adjoint<V, Index>> make_adjoint() const {
    return std::make_unique<mg::Adjoint<V, Index>>(mg::adjoint(h_));
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

 private:
  Hierarchy(Array<Index> crow, Array<Index> ccol, mg::Hierarchy<V, Index> h)
      : Base(std::move(crow), std::move(ccol)), h_(std::move(h)) {}

  mg::Hierarchy<V, Index> h_;
};

template <class V, class T>
void bind_build(py::class_<Hierarchy<V>>& c) {
  c.def("build", &Hierarchy<V>::template build<T>, array_arg("values"), py::arg("near_nullspace"),
        py::arg("threads"))
      .def("build_from", &Hierarchy<V>::template build_from<T>, array_arg("values"),
           py::arg("transfers"), py::arg("threads"));
}

template <class V>
void bind_hierarchy(py::module_& m, const char* name) {
  py::class_<Hierarchy<V>> h(m, name);
  h.def(py::init<Array<Index>, Array<Index>, bool, int, double, double, const std::string&, bool, int,
                 const std::string&, int, int>(),
        array_arg("crow"), array_arg("ccol"), py::arg("classical"), py::arg("block"), py::arg("strength"), py::arg("damping"),
        py::arg("smoother"), py::arg("symmetric"), py::arg("sweeps"), py::arg("cycle"), py::arg("coarse_size"),
        py::arg("max_levels"))
      .def("matrix", &Hierarchy<V>::matrix, py::arg("level"), py::arg("transfer"));
  bind_build<V, double>(h);
  bind_build<V, float>(h);
  bind_properties(h);
}

}  // namespace torch_sla_bindings
