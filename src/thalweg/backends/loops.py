"""The loops around kernels, in LLVM's language: over chunks, over single numbers, and over objects."""

REGION = """
define void @region(ptr %job) {
entry:
  %numberat = getelementptr i64, ptr %job, i64 1
  %number = load i64, ptr %numberat
  %tableat = getelementptr i64, ptr %job, i64 2
  %table = load ptr, ptr %tableat
  br label %take
take:
  %i = atomicrmw add ptr %job, i64 1 monotonic
  %more = icmp slt i64 %i, %number
  br i1 %more, label %work, label %exit
work:
  %offset = mul i64 %i, 7
  %record = getelementptr i64, ptr %table, i64 %offset
  %function = load ptr, ptr %record
  %r1 = getelementptr i64, ptr %record, i64 1
  %places = load ptr, ptr %r1
  %r2 = getelementptr i64, ptr %record, i64 2
  %gradient = load ptr, ptr %r2
  %r3 = getelementptr i64, ptr %record, i64 3
  %numbers = load ptr, ptr %r3
  %r4 = getelementptr i64, ptr %record, i64 4
  %start = load i64, ptr %r4
  %r5 = getelementptr i64, ptr %record, i64 5
  %stop = load i64, ptr %r5
  %r6 = getelementptr i64, ptr %record, i64 6
  %sums = load ptr, ptr %r6
  call void %function(ptr %places, ptr %gradient, ptr %numbers, i64 %start, i64 %stop, ptr %sums)
  br label %take
exit:
  ret void
}
"""

GATHER = """
define i64 @kernel(ptr %places, i64 %count, ptr %out) {
entry:
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %exit, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %same = phi i1 [ true, %entry ], [ %still, %loop ]
  %at = getelementptr ptr, ptr %places, i64 %i
  %p = load ptr, ptr %at
  %x = load TYPE, ptr %p
  WIDEN
  %o = getelementptr double, ptr %out, i64 %i
  store double %w, ptr %o
  %first = load double, ptr %out
  %equal = fcmp oeq double %w, %first
  %still = and i1 %same, %equal
  %next = add nuw nsw i64 %i, 1
  %done = icmp eq i64 %next, %count
  br i1 %done, label %exit, label %loop
exit:
  %all = phi i1 [ true, %entry ], [ %still, %loop ]
  %result = zext i1 %all to i64
  ret i64 %result
}
"""

SCATTER = """
define void @kernel(ptr %places, i64 %count, ptr %in) {
entry:
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %exit, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = getelementptr ptr, ptr %places, i64 %i
  %p = load ptr, ptr %at
  %o = getelementptr double, ptr %in, i64 %i
  %w = load double, ptr %o
  NARROW
  store TYPE %x, ptr %p
  %next = add nuw nsw i64 %i, 1
  %done = icmp eq i64 %next, %count
  br i1 %done, label %exit, label %loop
exit:
  ret void
}
"""


# kernel(objects, count, out, function): what a function makes of each object.
POINTERS = """
define void @kernel(ptr %objects, i64 %count, ptr %out, ptr %function) {
entry:
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %exit, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %at
  %place = call ptr %function(ptr %object)
  %o = getelementptr ptr, ptr %out, i64 %i
  store ptr %place, ptr %o
  %next = add nuw nsw i64 %i, 1
  %done = icmp eq i64 %next, %count
  br i1 %done, label %exit, label %loop
exit:
  ret void
}
"""

# How a number of each type is read into %w, a double, and written from it.
SINGLE = {
    "float32": ("float", "%w = fpext float %x to double", "%x = fptrunc double %w to float"),
    "float64": ("double", "%w = fadd double %x, -0.0", "%x = fadd double %w, -0.0"),
    "float16": (
        "half",
        "%f = fpext half %x to float\n  %w = fpext float %f to double",
        "%f = fptrunc double %w to float\n  %x = fptrunc float %f to half",
    ),
    "bfloat16": (
        "i16",
        "%whole = zext i16 %x to i32\n  %bits = shl i32 %whole, 16\n"
        "  %f = bitcast i32 %bits to float\n  %w = fpext float %f to double",
        "%f = fptrunc double %w to float\n  %bits = bitcast float %f to i32\n  %last = lshr i32 %bits, 16\n"
        "  %odd = and i32 %last, 1\n  %half = add i32 %odd, 32767\n  %sum = add i32 %bits, %half\n"
        "  %high = lshr i32 %sum, 16\n  %nan = fcmp uno float %f, 0.0\n"
        "  %kept = select i1 %nan, i32 32704, i32 %high\n  %x = trunc i32 %kept to i16",
    ),
}


def gather(kind: str) -> str:
    """Return the text of ``kernel(places, count, out)``: read numbers; tell whether all are equal."""
    element, widen, _ = SINGLE[kind]
    return GATHER.replace("TYPE", element).replace("WIDEN", widen)


def scatter(kind: str) -> str:
    """Return the text of ``kernel(places, count, in)``, which writes float64 to single numbers."""
    element, _, narrow = SINGLE[kind]
    return SCATTER.replace("TYPE", element).replace("NARROW", narrow)
