package score

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Cells returns the rows as words, a header first.
func Cells(results []Result) [][]string {
	cells := make([][]string, 0, 1+len(results))
	cells = append(cells, []string{"id", "ours", "peer", "limit", "unit", "ratio", "goal", "met", "machine"})
	for i := range results {
		r := &results[i]
		machine := "quiet"
		if r.Noisy {
			machine = "NOISY"
		}
		if r.Ours == nil {
			machine = "–"
		}
		cells = append(cells, []string{
			r.ID, Number(r.Ours), Number(r.Peer), Number(r.Limit), r.Unit, Number(r.Ratio), r.Goal, met(r), machine,
		})
	}
	return cells
}

func met(r *Result) string {
	switch {
	case r.Ours == nil:
		return "not measured"
	case r.Pass == nil:
		return "not judged"
	case *r.Pass:
		return "yes"
	}
	return "no"
}

// Number writes a figure with four significant digits, "–" if there is none.
func Number(v *float64) string {
	if v == nil {
		return "–"
	}
	abs := math.Abs(*v)
	switch {
	case abs >= 1000:
		return thousands(strconv.FormatFloat(*v, 'f', 0, 64))
	case abs >= 100:
		return strconv.FormatFloat(*v, 'f', 1, 64)
	case abs >= 1 || abs == 0:
		return strconv.FormatFloat(*v, 'f', 2, 64)
	}
	return strconv.FormatFloat(*v, 'g', 3, 64)
}

// thousands puts a comma between groups of three digits.
func thousands(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// Aligned writes cells in columns, numbers to the right.
func Aligned(w io.Writer, cells [][]string) error {
	return write(w, cells, "  ", func(widths []int) string { return "" }, "", "")
}

// Markdown writes cells as a table of Markdown.
func Markdown(w io.Writer, cells [][]string) error {
	return write(w, cells, " | ", func(widths []int) string {
		var line strings.Builder
		for _, n := range widths {
			line.WriteString("|" + strings.Repeat("-", n+2))
		}
		return line.String() + "|\n"
	}, "| ", " |")
}

func write(w io.Writer, cells [][]string, between string, rule func(widths []int) string, left, right string) error {
	if len(cells) == 0 {
		return nil
	}
	widths := make([]int, len(cells[0]))
	for _, row := range cells {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, row := range cells {
		words := make([]string, len(row))
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if words[i] = c + pad; isNumber(c) {
				words[i] = pad + c
			}
		}
		b.WriteString(strings.TrimRight(left+strings.Join(words, between)+right, " ") + "\n")
		if n == 0 {
			b.WriteString(rule(widths))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
	return err == nil || s == "–"
}

// Remarks lists, row by row, why something is missing or doubtful.
func Remarks(results []Result) []string {
	var lines []string
	for i := range results {
		r := &results[i]
		if r.Reason != "" {
			lines = append(lines, fmt.Sprintf("%s: not measured, or not in full: %s", r.ID, r.Reason))
		}
		if r.Noise != "" {
			lines = append(lines, fmt.Sprintf("%s: the machine was not quiet: %s", r.ID, r.Noise))
		}
	}
	return lines
}
