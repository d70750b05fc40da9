// _native.DualWriter. Arrays come in as the typed Python layer made them.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/index_calls.h"
#include "bindings/python_lane.h"
#include "bindings/registers.h"
#include "dualwrite/dual_writer.h"

namespace embedcore::bindings {

namespace {

namespace py = pybind11;
using dualwrite::DualWriter;
using Ids = py::array_t<std::int64_t, py::array::c_style>;
using Sequences = py::array_t<std::uint64_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using Seconds = std::optional<double>;

// Runs call(patience) without the GIL, asking about Ctrl-C while it waits.
template <class Call>
auto waiting(const Seconds& timeout, const Call& call) {
  Interruption interruption;
  dualwrite::Patience patience;
  if (timeout) {
    constexpr double longest = 1e9; // 31 years: no overflow
    patience.timeout = std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(*timeout, longest) * 1e9));
  }
  patience.go_on = [&] { return interruption.poll(0); };
  auto result = [&] {
    const py::gil_scoped_release release;
    return call(patience);
  }();
  interruption.rethrow();
  return result;
}

template <class T>
T value_of(Result<T> result) {
  if (!result.ok()) raise(result.error());
  return std::move(result.value());
}

std::shared_ptr<DualWriter> create(std::size_t capacity, unsigned threads, bool park, double gap_s) {
  dualwrite::Options options;
  options.capacity = capacity;
  options.threads = threads;
  options.park = park;
  options.gap_threshold = std::chrono::nanoseconds(static_cast<std::int64_t>(gap_s * 1e9));
  std::unique_ptr<DualWriter> writer = value_of(DualWriter::create({}, options));
  // Its threads may need the GIL to end.
  return std::shared_ptr<DualWriter>(writer.release(), [](DualWriter* held) {
    const py::gil_scoped_release release;
    delete held;
  });
}

// A native index, or any object with add and remove, whose dimension and metric are told.
std::shared_ptr<dualwrite::Target> target_of(const py::object& index, std::uint32_t dim, int metric,
                                             hnsw::Config& rules) {
  if (py::isinstance<hnsw::Index>(index)) {
    auto native = index.cast<std::shared_ptr<hnsw::Index>>();
    rules = native->config();
    return std::make_shared<dualwrite::IndexTarget>(std::move(native));
  }
  rules.dim = dim;
  rules.metric = static_cast<hnsw::Metric>(metric);
  return std::make_shared<PythonTarget>(index, dim);
}

std::uint32_t attach(DualWriter& writer, const py::object& index, std::uint32_t dim, int metric,
                     const py::object& source, std::optional<std::uint64_t> from_sequence,
                     std::optional<std::uint32_t> vectors_of) {
  dualwrite::LaneSpec spec;
  spec.target = target_of(index, dim, metric, spec.rules);
  if (!source.is_none()) spec.source = python_source(source);
  spec.from_sequence = from_sequence;
  spec.vectors_of = vectors_of;
  return value_of([&] {
    const py::gil_scoped_release release;
    return writer.attach(std::move(spec));
  }());
}

std::uint64_t swap(DualWriter& writer, std::uint32_t lane, const py::object& index, std::uint32_t dim,
                   int metric) {
  hnsw::Config rules;
  auto target = target_of(index, dim, metric, rules);
  return value_of([&] {
    const py::gil_scoped_release release;
    return writer.swap(lane, std::move(target), rules);
  }());
}

std::uint64_t write(DualWriter& writer, bool removes, const Ids& ids,
                    const std::vector<std::optional<Floats>>& vectors,
                    const std::optional<Sequences>& sequences,
                    const std::optional<std::vector<std::uint32_t>>& lanes, const Seconds& timeout) {
  dualwrite::Writes writes;
  writes.op = removes ? dualwrite::Op::remove : dualwrite::Op::upsert;
  writes.ids = {ids.data(), static_cast<std::size_t>(ids.size())};
  std::vector<dualwrite::Writes::Rows> rows(vectors.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!vectors[i]) continue;
    if (vectors[i]->ndim() != 2 || vectors[i]->shape(0) != ids.size()) {
      raise({Code::invalid_argument, "each array needs one row per id"});
    }
    rows[i] = {vectors[i]->data(), static_cast<std::uint32_t>(vectors[i]->shape(1))};
  }
  writes.rows = rows;
  if (sequences) writes.sequences = {sequences->data(), static_cast<std::size_t>(sequences->size())};
  if (lanes) writes.only_lanes = std::span<const std::uint32_t>(*lanes);
  const auto result = waiting(timeout, [&](const auto& patience) { return writer.write(writes, patience); });
  if (!result.ok() && result.error().code == Code::resource_exhausted) {
    raise_as("would_block", result.error().message);
  }
  return value_of(result);
}

py::dict lane_stats(const DualWriter& writer, std::uint32_t lane) {
  using namespace py::literals;
  const dualwrite::LaneStats s = value_of(writer.stats(lane));
  return py::dict("applied"_a = s.applied, "lag"_a = s.lag, "successes"_a = s.successes,
                  "failures"_a = s.failures, "missing"_a = s.missing, "ignored"_a = s.ignored,
                  "recorded"_a = s.recorded, "parked"_a = s.parked, "parkings"_a = s.parkings,
                  "caught_up"_a = s.caught_up, "source_error"_a = s.source_error);
}

py::dict writer_stats(DualWriter& writer) {
  using namespace py::literals;
  const dualwrite::WriterStats s = writer.stats();
  return py::dict("accepted"_a = s.accepted, "entries"_a = s.entries, "in_flight"_a = s.in_flight,
                  "waits"_a = s.waits, "refusals"_a = s.refusals, "publish_gaps"_a = s.publish_gaps);
}

py::list failures(const DualWriter& writer, std::uint32_t lane) {
  py::list all;
  for (const dualwrite::Failure& failure : value_of(writer.failures(lane))) {
    all.append(py::make_tuple(failure.id, failure.sequence, failure.reason));
  }
  return all;
}

} // namespace

void register_dual_writer(py::module_& m) {
  py::class_<DualWriter, std::shared_ptr<DualWriter>>(m, "DualWriter")
      .def(py::init(&create), py::arg("capacity"), py::arg("threads"), py::arg("park"), py::arg("gap_s"))
      .def("attach", &attach, py::arg("index"), py::arg("dim"), py::arg("metric"), py::arg("source"),
           py::arg("from_sequence"), py::arg("vectors_of"))
      .def("write", &write, py::arg("removes"), py::arg("ids").noconvert(), py::arg("vectors"),
           py::arg("sequences"), py::arg("lanes"), py::arg("timeout"))
      .def(
          "wait",
          [](DualWriter& writer, std::uint64_t ticket, const Seconds& timeout) {
            raise_if_error(waiting(timeout, [&](const auto& p) { return writer.wait(ticket, p); }));
          },
          py::arg("ticket"), py::arg("timeout"))
      .def(
          "detach",
          [](DualWriter& writer, std::uint32_t lane) {
            raise_if_error(waiting(std::nullopt, [&](const auto& p) { return writer.detach(lane, p); }));
          },
          py::arg("lane"))
      .def("swap", &swap, py::arg("lane"), py::arg("index"), py::arg("dim"), py::arg("metric"))
      .def(
          "step",
          [](DualWriter& writer, std::uint32_t lane, std::size_t n) {
            return value_of([&] {
              const py::gil_scoped_release release;
              return writer.step(lane, n);
            }());
          },
          py::arg("lane"), py::arg("n"))
      .def(
          "close",
          [](DualWriter& writer, bool drain, const Seconds& timeout) {
            raise_if_error(waiting(timeout, [&](const auto& p) { return writer.close(drain, p); }));
          },
          py::arg("drain"), py::arg("timeout"))
      .def_property_readonly("closed", &DualWriter::closed)
      .def("lanes", &DualWriter::lanes)
      .def("lane_stats", &lane_stats, py::arg("lane"))
      .def("stats", &writer_stats)
      .def("failures", &failures, py::arg("lane"));
}

} // namespace embedcore::bindings
