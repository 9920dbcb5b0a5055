package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
)

// Colours that can be read on white and on black; nothing is painted behind.
var (
	ink    = color.RGBA{0x80, 0x86, 0x8e, 0xff}
	blue   = color.RGBA{0x2f, 0x81, 0xf7, 0xff}
	red    = color.RGBA{0xe5, 0x48, 0x4d, 0xff}
	orange = color.RGBA{0xd9, 0x8c, 0x1a, 0xff}
)

// logTicks label log10(1+n), which has a place for zero.
var logTicks = plot.ConstantTicks{
	{Value: 0, Label: "0"}, {Value: math.Log10(2), Label: "1"}, {Value: math.Log10(11), Label: "10"},
	{Value: math.Log10(101), Label: "100"}, {Value: math.Log10(1001), Label: "1000"}, {Value: math.Log10(10001), Label: "10000"},
}

// sparse ticks are for low plots.
var sparse = plot.ConstantTicks{logTicks[0], logTicks[2], logTicks[3], logTicks[4], logTicks[5]}

func init() { plot.DefaultFont.Variant, plotter.DefaultFont.Variant = "Sans", "Sans" }

func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text = title
	p.Title.TextStyle.Color = ink
	p.Title.TextStyle.Font.Size = vg.Points(9)
	p.Title.Padding = vg.Points(3)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Label.TextStyle.Color = ink, ink
		a.Tick.Color, a.Tick.Label.Color = ink, ink
		a.Label.TextStyle.Font.Size = vg.Points(8)
		a.Tick.Label.Font.Size = vg.Points(8)
	}
	return p
}

// bars draws one bar per system.
func bars(title, unit string, names []string, values []float64, c color.Color) (*plot.Plot, error) {
	p := newPlot(title)
	n := len(names)
	heights := make(plotter.Values, n)
	labels := make([]string, n)
	var above plotter.XYLabels
	for i, v := range values {
		k := n - 1 - i // from the top
		heights[k], labels[k] = math.Log10(1+v), names[i]
		above.XYs = append(above.XYs, plotter.XY{X: math.Log10(1+v) + .05, Y: float64(k)})
		above.Labels = append(above.Labels, number(v))
	}
	b, err := plotter.NewBarChart(heights, vg.Points(9))
	if err != nil {
		return nil, err
	}
	b.Horizontal, b.Color, b.LineStyle.Width = true, c, 0
	l, err := plotter.NewLabels(above)
	if err != nil {
		return nil, err
	}
	for i := range l.TextStyle {
		l.TextStyle[i].Color = ink
		l.TextStyle[i].Font.Size = vg.Points(8)
		l.TextStyle[i].YAlign = draw.YCenter
	}
	p.Add(b, l)
	p.NominalY(labels...)
	p.X.Label.Text = unit
	p.X.Min, p.X.Max = 0, 4
	p.X.Tick.Marker = logTicks
	return p, nil
}

// rates draws requests per second through an event.
func rates(title string, line []measure.Point, last bool) (*plot.Plot, error) {
	p := newPlot(title)
	perSecond := float64(1000) / float64(measure.Step.Milliseconds())
	ok, failed := plotter.XYs{}, plotter.XYs{}
	for _, pt := range line {
		at := float64(pt.At) / 1000
		ok = append(ok, plotter.XY{X: at, Y: math.Log10(1 + float64(pt.OK)*perSecond)})
		failed = append(failed, plotter.XY{X: at, Y: math.Log10(1 + float64(pt.Failed)*perSecond)})
	}
	if err := addLine(p, ok, blue); err != nil {
		return nil, err
	}
	if err := addLine(p, failed, red); err != nil {
		return nil, err
	}
	p.Y.Label.Text = "requests/s"
	p.Y.Min, p.Y.Max = 0, 4.3
	p.Y.Tick.Marker = sparse
	return p, finish(p, line, last)
}

// delays draws the longest latency of each step.
func delays(title string, line []measure.Point, last bool) (*plot.Plot, error) {
	p := newPlot(title)
	xys := plotter.XYs{}
	for _, pt := range line {
		if pt.OK > 0 {
			xys = append(xys, plotter.XY{X: float64(pt.At) / 1000, Y: max(pt.Max, .1)})
		}
	}
	if err := addLine(p, xys, orange); err != nil {
		return nil, err
	}
	p.Y.Label.Text = "slowest, ms"
	p.Y.Scale = plot.LogScale{}
	p.Y.Min, p.Y.Max = .1, 2000
	p.Y.Tick.Marker = plot.ConstantTicks{{Value: .1, Label: "0.1"}, {Value: 1, Label: "1"}, {Value: 10, Label: "10"}, {Value: 100, Label: "100"}, {Value: 1000, Label: "1000"}}
	return p, finish(p, line, last)
}

func addLine(p *plot.Plot, xys plotter.XYs, c color.Color) error {
	if len(xys) == 0 {
		return nil
	}
	l, err := plotter.NewLine(xys)
	if err != nil {
		return err
	}
	l.Color, l.Width, l.StepStyle = c, vg.Points(1), plotter.PostStep
	p.Add(l)
	return nil
}

// finish marks the trigger, and labels the time axis of the last plot.
func finish(p *plot.Plot, line []measure.Point, last bool) error {
	if last {
		p.X.Label.Text = "seconds from the trigger"
	}
	p.X.Min, p.X.Max = float64(line[0].At)/1000, float64(line[len(line)-1].At)/1000
	var ticks plot.ConstantTicks
	for at := math.Ceil(p.X.Min*2) / 2; at <= p.X.Max; at += .5 {
		ticks = append(ticks, plot.Tick{Value: at, Label: fmt.Sprintf("%.1f", at)})
	}
	p.X.Tick.Marker = ticks
	mark, err := plotter.NewLine(plotter.XYs{{X: 0, Y: p.Y.Min}, {X: 0, Y: p.Y.Max}})
	if err != nil {
		return err
	}
	mark.Color, mark.Width, mark.Dashes = ink, vg.Points(.5), []vg.Length{vg.Points(3), vg.Points(3)}
	p.Add(mark)
	return nil
}

// save writes a grid of plots as SVG.
func save(path string, grid [][]*plot.Plot, width, height vg.Length) error {
	c := vgsvg.New(width, height)
	dc := draw.New(c)
	pad := vg.Points(10)
	tiles := draw.Tiles{Rows: len(grid), Cols: len(grid[0]), PadX: vg.Points(14), PadY: vg.Points(8), PadTop: pad, PadBottom: pad, PadLeft: pad, PadRight: pad}
	for i := range grid {
		for j := range grid[i] {
			grid[i][j].Draw(tiles.At(dc, j, i))
		}
	}
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(path, withFonts(b.Bytes()), 0o666)
}

// withFonts names more fonts of the same widths.
func withFonts(svg []byte) []byte {
	return bytes.ReplaceAll(svg, []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
}

// lostBars draws what an action loses.
func (a All) lostBars(path, action string, systems []string) error {
	var names []string
	var failed, closed []float64
	for _, s := range systems {
		if e := a.events(s, action, false); len(e) > 0 {
			names = append(names, title(s))
			failed = append(failed, counts(e, (*measure.Event).Lost).median())
			closed = append(closed, counts(e, (*measure.Event).Closed).median())
		}
	}
	if len(names) == 0 {
		return nil
	}
	left, err := bars(fmt.Sprintf("Failed requests per %s", action), "requests (median; log scale)", names, failed, red)
	if err != nil {
		return err
	}
	right, err := bars("Connections closed unannounced, of 270", "connections (median; log scale)", names, closed, orange)
	if err != nil {
		return err
	}
	for i := range names {
		names[i] = ""
	}
	right.NominalY(names...)
	return save(path, [][]*plot.Plot{{left, right}}, vg.Points(720), vg.Points(float64(60+15*len(names))))
}

// timelines draws requests per second and latency, a row per system.
func (a All) timelines(path, action string, systems []string) error {
	var found []*measure.Event
	for _, s := range systems {
		if e := a.example(s, action); e != nil {
			found = append(found, e)
		}
	}
	var grid [][]*plot.Plot
	for i, e := range found {
		last := i == len(found)-1
		r, err := rates(title(e.System)+": answered, failed", e.Line, last)
		if err != nil {
			return err
		}
		d, err := delays("latency", e.Line, last)
		if err != nil {
			return err
		}
		grid = append(grid, []*plot.Plot{r, d})
	}
	if len(grid) == 0 {
		return nil
	}
	return save(path, grid, vg.Points(720), vg.Points(float64(95*len(grid)+20)))
}
