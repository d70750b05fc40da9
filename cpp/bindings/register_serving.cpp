// RoutingTable, Router, Answer and their like: the query path as Python calls it.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/register_common.h"
#include "bindings/registers.h"
#include "serving/router.h"
#include "serving/table_builder.h"

namespace py = pybind11;

namespace embedcore::bindings {

namespace {

using namespace embedcore::serving; // NOLINT: this file is about nothing else
constexpr int carray = py::array::c_style | py::array::forcecast;
using Floats = py::array_t<float, carray>;
using Ids = py::array_t<std::int64_t, carray>;

template <class T>
T unwrap(Result<T> result) {
  if (!result.ok()) raise(result.error());
  return std::move(result.value());
}

// An array that shows a vector of the answer; it keeps the answer alive and refuses writes.
template <class T>
py::array_t<T> view(const py::object& owner, const std::vector<T>& values) {
  py::array_t<T> array(static_cast<py::ssize_t>(values.size()), values.data(), owner);
  array.attr("flags").attr("writeable") = false;
  return array;
}

// {generation number: array of ndim dimensions}; arrays own what the returned pairs point to.
std::vector<std::pair<std::int64_t, Floats>> arrays_of(const py::dict& vectors, py::ssize_t ndim) {
  std::vector<std::pair<std::int64_t, Floats>> arrays;
  arrays.reserve(vectors.size());
  for (const auto& [key, value] : vectors) {
    auto array = py::cast<Floats>(value);
    const auto generation = py::cast<std::int64_t>(key);
    if (array.ndim() != ndim) {
      raise({Code::invalid_argument, "the query of generation " + std::to_string(generation) + " must have " +
                                         (ndim == 1 ? "shape (dim,)" : "shape (n, dim)") + ", got " +
                                         std::to_string(array.ndim()) + " dimensions"});
    }
    arrays.emplace_back(generation, std::move(array));
  }
  return arrays;
}

// Relative seconds to the router's absolute nanoseconds; a deadline already passed stays one.
std::uint64_t deadline_of(std::optional<double> seconds) {
  if (!seconds.has_value()) return 0;
  if (std::isnan(*seconds)) raise({Code::invalid_argument, "deadline_s is not a number"});
  if (*seconds <= 0) return 1;
  constexpr double longest = 1e9; // 31 years: no overflow
  return steady_now_ns() + static_cast<std::uint64_t>(std::min(*seconds, longest) * 1e9);
}

double override_of(std::optional<double> weight) {
  if (!weight.has_value()) return no_override;
  // So that the number which means "none" inside cannot come in from outside.
  return *weight >= 0 ? *weight : std::numeric_limits<double>::quiet_NaN();
}

Answer search(const Router& router, std::size_t slot, const py::dict& vectors, std::int64_t k,
              std::optional<double> deadline_s, std::uint64_t user_hash, const std::optional<Ids>& filter_ids,
              std::optional<double> weight) {
  const auto arrays = arrays_of(vectors, 1);
  std::vector<QueryVector> queries;
  queries.reserve(arrays.size());
  for (const auto& [generation, array] : arrays) {
    queries.push_back({generation, {array.data(), static_cast<std::size_t>(array.size())}});
  }
  Request request{slot, queries, k, deadline_of(deadline_s), user_hash, {}, override_of(weight)};
  if (filter_ids.has_value()) {
    request.filter = std::span(filter_ids->data(), static_cast<std::size_t>(filter_ids->size()));
  }
  return unwrap([&] {
    const py::gil_scoped_release release;
    return router.search(request);
  }());
}

py::tuple search_batch(const Router& router, std::size_t slot, const py::dict& vectors, std::int64_t k,
                       std::optional<double> weight, unsigned threads) {
  const auto arrays = arrays_of(vectors, 2);
  std::vector<QueryMatrix> queries;
  for (const auto& [generation, array] : arrays) {
    queries.push_back({generation, array.data(), static_cast<std::size_t>(array.shape(0)),
                       static_cast<std::size_t>(array.shape(1))});
  }
  BatchRequest request{slot, queries, k, override_of(weight), threads, {}};
  request.keep_going = [polled = 0u](std::size_t) mutable {
    if (polled++ % 32 != 0) return true; // taking the GIL for every row would cost more than the row
    const py::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() == 0; // Ctrl-C
  };
  auto result = [&] {
    const py::gil_scoped_release release;
    return router.search_batch(request);
  }();
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  BatchAnswer answer = unwrap(std::move(result));
  const auto columns = static_cast<py::ssize_t>(k);
  const auto rows = static_cast<py::ssize_t>(answer.ids.size()) / columns;
  return py::make_tuple(py::array_t<std::int64_t>({rows, columns}, answer.ids.data()),
                        py::array_t<float>({rows, columns}, answer.distances.data()));
}

py::array_t<double> latency_ends() {
  py::array_t<double> ends(static_cast<py::ssize_t>(latency::buckets));
  for (std::size_t i = 0; i < latency::buckets; ++i) {
    const bool open = i + 1 == latency::buckets;
    ends.mutable_at(static_cast<py::ssize_t>(i)) =
        open ? std::numeric_limits<double>::infinity() : static_cast<double>(latency::end_of(i)) * 1e-9;
  }
  return ends;
}

void register_values(py::module_& m) {
  py::class_<Plan>(m, "Plan", "What a request needs under the current table.")
      .def_property_readonly("generations", [](const Plan& p) { return py::tuple(py::cast(p.generations)); })
      .def_readonly("weight", &Plan::weight)
      .def_property_readonly("arm", [](const Plan& p) { return static_cast<int>(p.arm); })
      .def_readonly("table_version", &Plan::table_version);

  py::class_<Answer>(m, "Answer", "One answer with its provenance. Its arrays are views of it, read-only.")
      .def_property_readonly("ids", [](const py::object& a) { return view(a, a.cast<Answer&>().ids); })
      .def_property_readonly("distances",
                             [](const py::object& a) { return view(a, a.cast<Answer&>().distances); })
      .def_readonly("weight", &Answer::weight)
      .def_property_readonly("arm", [](const Answer& a) { return static_cast<int>(a.arm); })
      .def_property_readonly("generations",
                             [](const Answer& a) { return py::tuple(py::cast(a.generations)); })
      .def_readonly("table_version", &Answer::table_version)
      .def_readonly("shards_asked", &Answer::shards_asked)
      .def_readonly("shards_answered", &Answer::shards_answered)
      .def_readonly("partial", &Answer::partial)
      .def_readonly("missing_generation", &Answer::missing_generation);

  py::class_<CounterSnapshot>(m, "CounterSnapshot", "A slot's counters at one moment; they only grow.")
      .def_readonly("queries", &CounterSnapshot::queries)
      .def_readonly("empty", &CounterSnapshot::empty)
      .def_readonly("partial", &CounterSnapshot::partial)
      .def_readonly("errors", &CounterSnapshot::errors)
      .def_property_readonly(
          "latency_sum_s",
          [](const CounterSnapshot& c) { return static_cast<double>(c.latency_sum_ns) * 1e-9; })
      .def_property_readonly("latency_counts", [](const CounterSnapshot& c) {
        return py::array_t<std::uint64_t>(static_cast<py::ssize_t>(c.latency_counts.size()),
                                          c.latency_counts.data());
      });
  m.def("latency_bucket_ends", &latency_ends,
        "float64: upper ends in seconds of the buckets of CounterSnapshot.latency_counts; the last is inf.");
}

void register_table(py::module_& m) {
  py::class_<TableBuilder>(
      m, "RoutingTable", "A routing table being put together; Router.publish takes a copy. Not thread-safe.")
      .def(py::init<std::uint64_t>(), py::arg("version"))
      .def("add_generation", &TableBuilder::add_generation, py::arg("number"), py::arg("shards"))
      .def(
          "add_consumer",
          [](TableBuilder& self, std::int64_t source, std::optional<std::int64_t> target, double weight,
             std::map<std::int64_t, std::uint32_t> ef_search,
             std::shared_ptr<dualwrite::ScoreCalibration> calibration, double canary_share,
             std::uint64_t canary_salt) {
            if (target == 0) target.reset();
            return self.add_consumer({source, target, weight, std::move(ef_search), std::move(calibration),
                                      canary_share, canary_salt});
          },
          py::arg("source"), py::kw_only(), py::arg("target") = py::none(), py::arg("weight") = 0.0,
          py::arg("ef_search"), py::arg("calibration") = py::none(), py::arg("canary_share") = 0.0,
          py::arg("canary_salt") = 0,
          "Generations by number, a target of None or 0 is none; returns the slot.")
      .def("add_closed_slot", &TableBuilder::add_closed_slot,
           "Keeps the place of a consumer that is gone; searches of it are refused. Returns the slot.")
      .def_property_readonly("version", &TableBuilder::version)
      .def_property_readonly("slots", &TableBuilder::slots);
}

void register_router(py::module_& m) {
  py::class_<Router, std::shared_ptr<Router>>(m, "Router",
                                              "The query path; any number of threads may call it.")
      .def(py::init<>())
      .def(
          "publish",
          [](Router& self, const TableBuilder& builder) {
            raise_if_error([&]() -> Status {
              auto table = builder.build();
              if (!table.ok()) return table.error();
              const py::gil_scoped_release release;
              return self.publish(std::move(table.value()));
            }());
          },
          py::arg("table"), "Replaces the table for all searches that begin from now on.")
      .def("version", &Router::version, "Of the current table; 0 before the first.")
      .def(
          "plan",
          [](const Router& self, std::size_t slot, std::uint64_t user_hash) {
            return unwrap(self.plan(slot, user_hash));
          },
          py::arg("slot"), py::arg("user_hash") = 0)
      .def("search", &search, py::arg("slot"), py::arg("vectors"), py::arg("k"),
           py::arg("deadline_s") = py::none(), py::arg("user_hash") = 0, py::arg("filter_ids") = py::none(),
           py::arg("weight") = py::none())
      .def("search_batch", &search_batch, py::arg("slot"), py::arg("vectors"), py::arg("k"),
           py::arg("weight") = py::none(), py::arg("threads") = 0)
      .def(
          "counters", [](const Router& self, std::size_t slot) { return unwrap(self.counters(slot)); },
          py::arg("slot"));
}

} // namespace

void register_serving(py::module_& m) {
  register_common(m);
  register_values(m);
  register_table(m);
  register_router(m);
}

} // namespace embedcore::bindings
