"""The built-in that Python calls: it hands the addresses of arrays' data to an operation, and releases Python's lock meanwhile."""

MOST = 12  # arrays

# `{name}` is METH_FASTCALL: call(plan, *arrays). The plan's first word is an operation's address. The operation is given a record: the
# addresses of the data of plan and arrays. Two words are written when the code is loaded. `{name}_offset` is where an array object holds
# the address of its data; it differs in a free-threaded Python. `{name}_error` is TypeError: once Numba is imported, LLVM resolves that
# symbol differently.
TEXT = """
@{name}_offset = global i64 0
@wrong = private constant [{length} x i8] c"{wrong}\\00"
@{name}_error = global ptr null
declare ptr @PyErr_Format(ptr, ptr, ...)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @Py_IncRef(ptr)

define ptr @{name}(ptr %none, ptr %objects, i64 %count) {{
start:
  %addresses = alloca [{most} x ptr]
  %few = icmp sge i64 %count, 1
  %most = icmp sle i64 %count, {most}
  %right = and i1 %few, %most
  br i1 %right, label %read, label %refuse
refuse:
  %kind = load ptr, ptr @{name}_error
  %raised = call ptr (ptr, ptr, ...) @PyErr_Format(ptr %kind, ptr @wrong, i64 %count)
  ret ptr null
read:
  %offset = load i64, ptr @{name}_offset
  br label %next
next:
  %i = phi i64 [ 0, %read ], [ %after, %next ]
  %object_at = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %object_at
  %data_at = getelementptr i8, ptr %object, i64 %offset
  %data = load ptr, ptr %data_at
  %address_at = getelementptr ptr, ptr %addresses, i64 %i
  store ptr %data, ptr %address_at
  %after = add i64 %i, 1
  %more = icmp slt i64 %after, %count
  br i1 %more, label %next, label %go
go:
  %plan = load ptr, ptr %addresses
  %operation = load ptr, ptr %plan
  %thread = call ptr @PyEval_SaveThread()
  call void %operation(ptr %addresses)
  call void @PyEval_RestoreThread(ptr %thread)
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}}
"""


def text(name):
    wrong = f"call takes from 1 to {MOST} arrays, got %zd"
    return TEXT.format(name=name, most=MOST, wrong=wrong, length=len(wrong) + 1)
