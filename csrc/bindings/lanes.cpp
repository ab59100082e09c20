#include <vector>

#include "arrays.hpp"
#include "torch_sla/lanes.hpp"

namespace {

using namespace torch_sla_bindings;
using torch_sla::LaneFactor;
using torch_sla::Symbolic;

template <class T>
Array<T> first_of(const std::vector<T>& x, std::int64_t count) {
  return Array<T>(static_cast<py::ssize_t>(count), x.data());
}

template <class T>
void check_member(const LaneFactor<T>& f, std::int64_t member) {
  if (member < 0 || member >= f.members)
    throw std::out_of_range("there is no member " + std::to_string(member) + " among " + std::to_string(f.members));
}

// The arguments of a solve, checked.
template <class T>
struct Solve {
  std::vector<std::int64_t> listed;
  const T* b;
  T* x;
  std::int64_t nrhs;

  Solve(const LaneFactor<T>& f, const Array<std::int64_t>& members, const Array<T>& rhs, Array<T>& out)
      : listed(members.data(), members.data() + members.size()),
        b(rhs.data()),
        x(out.mutable_data()),
        nrhs(rhs.ndim() == 3 ? rhs.shape(2) : 1) {
    const std::int64_t count = members.size(), entries = count * f.symbolic->n * nrhs;
    expect_size(rhs, entries, "b");
    expect_size(out, entries, "x");
    for (std::int64_t k = 0; k < count; ++k) {
      check_member(f, listed[k]);
      if (k > 0 && listed[k] <= listed[k - 1]) throw std::invalid_argument("`members` must ascend");
    }
  }
};

template <class T>
void bind_lanes(py::module_& m, const char* suffix) {
  using FactorT = LaneFactor<T>;
  py::class_<FactorT, std::shared_ptr<FactorT>>(m, (std::string("LaneFactor_") + suffix).c_str(), py::module_local())
      .def_property_readonly("bytes", &FactorT::bytes)
      .def_property_readonly("lowest", [](const FactorT& f) { return first_of(f.lowest, f.members); })
      .def_property_readonly("growth", [](const FactorT& f) { return first_of(f.growth, f.members); })
      .def_property_readonly("error", [](const FactorT& f) { return first_of(f.error, f.members); })
      .def("log_determinant",
           [](const FactorT& f, std::int64_t member) {
             check_member(f, member);
             return torch_sla::lane_determinant(f, member);
           })
      .def("extract",
           [](const FactorT& f, std::int64_t member, bool positive) {
             check_member(f, member);
             if (!f.symmetric) throw std::invalid_argument("only factors of symmetric matrices can be taken apart");
             return std::make_shared<torch_sla::Factor<T>>(torch_sla::extract_lane(f, member, positive));
           })
      .def(
          "solve",
          [](const FactorT& f, const Array<std::int64_t>& members, const Array<T>& b, Array<T>& x, bool transposed,
             int threads) {
            const Solve<T> task(f, members, b, x);
            const Released release;
            torch_sla::solve_lanes(f, task.listed, task.b, task.x, task.nrhs, transposed, threads);
          },
          array_arg("members"), array_arg("b"), array_arg("x"), py::arg("transposed"), py::arg("threads"))
      // The same, and what is left over of op(A) x for the matrices themselves: values [listed, nnz] of rows crow
      // [n+1] and columns ccol [nnz], sizes [5, listed, nrhs].
      .def(
          "solve_measured",
          [](const FactorT& f, const Array<std::int64_t>& members, const Array<T>& b, Array<T>& x, bool transposed,
             const Array<std::int32_t>& crow, const Array<std::int32_t>& ccol, const Array<T>& values, bool turned,
             Array<T>& sizes, int threads) {
            const Solve<T> task(f, members, b, x);
            const std::int64_t count = members.size();
            expect_size(crow, f.symbolic->n + std::int64_t{1}, "crow");
            expect_size(values, count * ccol.size(), "values");
            expect_size(sizes, 5 * count * task.nrhs, "sizes");
            const torch_sla::LaneCheck<T> check{crow.data(), ccol.data(), values.data(), turned,
                                                sizes.mutable_data()};
            const Released release;
            torch_sla::solve_lanes(f, task.listed, task.b, task.x, task.nrhs, transposed, threads, &check);
          },
          array_arg("members"), array_arg("b"), array_arg("x"), py::arg("transposed"), array_arg("crow"),
          array_arg("ccol"), array_arg("values"), py::arg("turned"), array_arg("sizes"), py::arg("threads"));

  // values [members, nnz] of the matrix with rows crow [n+1] and columns ccol [nnz]; slot and mirror [entries of the
  // analysed pattern].
  m.def(
      "factorize",
      [](const std::shared_ptr<Symbolic>& symbolic, const Array<std::int32_t>& crow, const Array<std::int32_t>& ccol,
         const Array<std::int32_t>& slot, const Array<std::int32_t>& mirror, const Array<T>& values,
         const Array<T>& probe, bool symmetric, int threads) {
        const std::int64_t n = symbolic->n, entries = symbolic->nnz, nnz = ccol.size();
        const std::int64_t members = nnz == 0 ? 0 : values.size() / nnz;
        expect_size(crow, n + 1, "crow");
        expect_size(values, members * nnz, "values");
        expect_size(probe, n, "probe");
        check_slots(slot, entries, symmetric ? 0 : -1, nnz, "slot");
        check_slots(mirror, entries, 0, entries, "mirror");
        const torch_sla::LanePattern pattern{nnz, crow.data(), ccol.data(), {slot.data(), mirror.data()}};
        const T *from = values.data(), *given = probe.data();
        const Released release;
        const torch_sla::OneBlasThread one;
        return std::make_shared<FactorT>(
            torch_sla::factorize_lanes<T>(symbolic, pattern, from, members, symmetric, given, threads));
      },
      py::arg("symbolic"), array_arg("crow"), array_arg("ccol"), array_arg("slot"), array_arg("mirror"),
      array_arg("values"), array_arg("probe"), py::arg("symmetric"), py::arg("threads"));
  m.def(
      "measure",
      [](const Array<std::int32_t>& crow, const Array<std::int32_t>& ccol, const Array<T>& values, Array<T>& out,
         int threads) {
        const std::int64_t n = crow.size() - 1, nnz = ccol.size(), members = nnz == 0 ? 0 : values.size() / nnz;
        expect_size(values, members * nnz, "values");
        expect_size(out, 4 * members, "out");
        const T* from = values.data();
        T* to = out.mutable_data();
        const Released release;
        torch_sla::measure_lanes(n, crow.data(), ccol.data(), from, members, to, threads);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("values"), array_arg("out"), py::arg("threads"));
  m.def(
      "residual",
      [](const Array<std::int32_t>& crow, const Array<std::int32_t>& ccol, const Array<T>& values, const Array<T>& x,
         const Array<T>& b, bool transposed, Array<T>& r, Array<T>& sizes, int threads) {
        const std::int64_t n = crow.size() - 1, nnz = ccol.size(), members = b.shape(0), nrhs = b.shape(2);
        expect_size(values, members * nnz, "values");
        expect_size(x, members * n * nrhs, "x");
        expect_size(b, members * n * nrhs, "b");
        expect_size(r, members * n * nrhs, "r");
        expect_size(sizes, 5 * members * nrhs, "sizes");
        const T *a = values.data(), *y = x.data(), *given = b.data();
        T *left = r.mutable_data(), *found = sizes.mutable_data();
        const Released release;
        torch_sla::residual_members(n, crow.data(), ccol.data(), a, y, given, members, nrhs, transposed, left, found,
                                    threads);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("values"), array_arg("x"), array_arg("b"),
      py::arg("transposed"), array_arg("r"), array_arg("sizes"), py::arg("threads"));
  m.def((std::string("width_") + suffix).c_str(), [] { return torch_sla::lanes::kernels<T>(false).width; });
  m.def((std::string("working_entries_") + suffix).c_str(), [](const Symbolic& s, std::int64_t nnz, bool symmetric) {
    return torch_sla::lane_entries(s, nnz, symmetric, torch_sla::lanes::kernels<T>(false).width);
  });
}

}  // namespace

void bind_lanes(py::module_& m) {
  m.doc() = "Factors of many matrices on one pattern, a matrix in each lane of a register.";
  bind_lanes<double>(m, "d");
  bind_lanes<float>(m, "s");
}
