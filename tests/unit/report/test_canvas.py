from thalweg.report.canvas import DOTS, Canvas, framed


def test_a_level_line_is_a_row_of_dots():
    canvas = Canvas(x=(0, 4), y=(0, 1), columns=4, rows=2)
    canvas.line([0, 4], [1, 1])

    assert canvas.lines() == [chr(0x2800 + sum(DOTS[0])) * 4, "    "]


def test_what_lies_beyond_the_range_is_drawn_at_its_edge():
    canvas = Canvas(x=(0, 4), y=(0, 1), columns=4, rows=1)
    canvas.line([0, 4], [7, 7])

    assert canvas.lines() == [chr(0x2800 + sum(DOTS[0])) * 4]
    assert (canvas.row(7), canvas.row(-7), canvas.column(-1), canvas.column(9)) == (0, 0, 0, 3)


def test_a_character_covers_the_dots_and_is_painted_by_its_owner():
    canvas = Canvas(x=(0, 4), y=(0, 1), columns=2, rows=1)
    canvas.line([0, 4], [1, 1], owner=3)
    canvas.put(0, 1, "x", owner=5)

    assert canvas.lines(lambda text, owner: f"{text}{owner}") == [f"{chr(0x2800 + sum(DOTS[0]))}3x5"]


def test_axes_stand_around_the_rows():
    assert framed(["ab", "cd", "ef"], ["1", "0.5", "0"], ("0", "", "9"), columns=2) == [
        "  1 ┤ab",
        "0.5 ┤cd",
        "  0 ┤ef",
        "    └──",
        "     09",
    ]
