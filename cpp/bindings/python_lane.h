// Python objects as what a lane writes to and catches up from. Called by lane threads: each call takes the
// GIL, and an exception becomes an error value, so that it ends on the lane's record and not in a thread.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "dualwrite/target.h"

namespace embedcore::bindings {

namespace py = pybind11;

inline bool finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// A reference that may be let go by a thread without the GIL.
using SharedObject = std::shared_ptr<py::object>;

inline SharedObject shared(py::object object) {
  return SharedObject(new py::object(std::move(object)), [](py::object* held) {
    if (finalizing()) return; // the interpreter takes it down itself
    const py::gil_scoped_acquire gil;
    delete held;
  });
}

// call() under the GIL, its exception as a status. Not in an interpreter that ends: it would not return.
template <class Call>
Status call_python(const Call& call) {
  if (finalizing()) return {Code::unavailable, "the interpreter is ending"};
  const py::gil_scoped_acquire gil;
  try {
    call();
    return {};
  } catch (py::error_already_set& error) {
    const auto name = py::cast<std::string>(error.type().attr("__name__"));
    return {Code::internal, name + ": " + py::cast<std::string>(py::str(error.value()))};
  } catch (const std::exception& error) {
    return {Code::internal, error.what()};
  }
}

// Any object with add(ids, vectors) and remove(ids). It is handed copies.
class PythonTarget final : public dualwrite::Target {
 public:
  PythonTarget(py::object index, std::size_t dim)
      : identity_(index.ptr()), index_(shared(std::move(index))), dim_(dim) {}

  Status add(std::span<const std::int64_t> ids, const float* rows, unsigned) override {
    return call_python([&] {
      py::array_t<float> vectors({ids.size(), dim_});
      std::memcpy(vectors.mutable_data(), rows, ids.size() * dim_ * sizeof(float));
      index_->attr("add")(array_of(ids), std::move(vectors));
    });
  }
  Status remove(std::span<const std::int64_t> ids) override {
    return call_python([&] { index_->attr("remove")(array_of(ids)); });
  }
  [[nodiscard]] const void* index() const override { return identity_; }

 private:
  static py::array_t<std::int64_t> array_of(std::span<const std::int64_t> ids) {
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(ids.size()), ids.data());
  }
  const void* identity_;
  SharedObject index_;
  const std::size_t dim_;
};

// A callable (from, limit) -> (sequences uint64, ids int64, kinds uint8, vectors float32 (upserts, dim)).
inline dualwrite::Source python_source(py::object callable) {
  return [held = shared(std::move(callable))](std::uint64_t from, std::size_t limit,
                                              dualwrite::SourceWrites& out) {
    return call_python([&] {
      constexpr int form = py::array::c_style | py::array::forcecast;
      const auto made = py::cast<py::tuple>((*held)(from, limit));
      const auto sequences = py::cast<py::array_t<std::uint64_t, form>>(made[0]);
      const auto ids = py::cast<py::array_t<std::int64_t, form>>(made[1]);
      const auto kinds = py::cast<py::array_t<std::uint8_t, form>>(made[2]);
      const auto rows = py::cast<py::array_t<float, form>>(made[3]);
      out.sequences.assign(sequences.data(), sequences.data() + sequences.size());
      out.ids.assign(ids.data(), ids.data() + ids.size());
      for (py::ssize_t i = 0; i < kinds.size(); ++i) {
        out.kinds.push_back(static_cast<dualwrite::SourceWrites::Kind>(kinds.data()[i]));
      }
      out.rows.assign(rows.data(), rows.data() + rows.size());
    });
  };
}

} // namespace embedcore::bindings
