// Raises the Python exception of a native error: embedcore.errors holds the classes, found by code.
#include <pybind11/pybind11.h>

#include "bindings/registers.h"

namespace embedcore::bindings {

// The core knows damaged data; that it was a file with a format of ours is known here, since snapshots
// and calibrations are all that the core reads.
const char* python_code(Code code) { return code == Code::data_loss ? "corrupt_snapshot" : name_of(code); }

void raise(const Error& error) { raise_as(python_code(error.code), error.message); }

void raise_as(const char* code, const std::string& message) {
  namespace py = pybind11;
  // It may name a file, and names of files are any bytes.
  const auto size = static_cast<py::ssize_t>(message.size());
  const auto text = py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefaultAndSize(message.data(), size));
  if (!text) throw py::error_already_set();
  // Imported when first needed: embedcore imports this module, not the reverse.
  const py::object exception = py::module_::import("embedcore.errors").attr("error_of")(code, text);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

} // namespace embedcore::bindings
