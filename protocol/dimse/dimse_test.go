package dimse

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The vectors are typed after the tables of PS3.8, 9.3 and annex D, and PS3.7, 9.3 and D.3.
const (
	fixedHead = `0001 0000 'LANEPOST        ' 'SCANNER         '
		0000000000000000000000000000000000000000000000000000000000000000
		10 00 0015 '1.2.840.10008.3.1.1.1'`

	// It proposes verification and DICOS DX, with a user name and a passcode.
	proposal = `01 00 00000114` + fixedHead + `
		20 00 002e 01 00 00 00
			30 00 0011 '1.2.840.10008.1.1'
			40 00 0011 '1.2.840.10008.1.2'
		20 00 0051 03 00 00 00
			30 00 001f '1.2.840.10008.5.1.4.1.1.501.2.1'
			40 00 0011 '1.2.840.10008.1.2'
			40 00 0011 '1.2.840.10008.1.1'
		50 00 002c
			51 00 0004 00004000
			52 00 0005 '1.2.3'
			55 00 0003 'abc'
			58 00 0010 02 01 0004 'lane' 0006 'secret'`

	// Verification is accepted with implicit little endian, the other is not.
	acceptance = `02 00 000000bf` + fixedHead + `
		21 00 0019 01 00 00 00
			40 00 0011 '1.2.840.10008.1.2'
		21 00 0019 03 00 04 00
			40 00 0011 '1.2.840.10008.1.2'
		50 00 0024
			51 00 0004 00010000
			52 00 0009 '1.2.3.4.5'
			55 00 0005 'lane1'
			59 00 0002 0000`

	echoRequest = `04 00 0000004a 00000046 01 03
		0000 0000 04000000 38000000
		0000 0200 12000000 '1.2.840.10008.1.1' 00
		0000 0001 02000000 3000
		0000 1001 02000000 0700
		0000 0008 02000000 0101`

	echoAnswer = `04 00 00000054 00000050 01 03
		0000 0000 04000000 42000000
		0000 0200 12000000 '1.2.840.10008.1.1' 00
		0000 0001 02000000 3080
		0000 2001 02000000 0700
		0000 0008 02000000 0101
		0000 0009 02000000 0000`

	storeRequest = `04 00 0000006e 0000006a 03 03
		0000 0000 04000000 5c000000
		0000 0200 20000000 '1.2.840.10008.5.1.4.1.1.501.2.1' 00
		0000 0001 02000000 0100
		0000 1001 02000000 0900
		0000 0007 02000000 0000
		0000 0008 02000000 0000
		0000 0010 04000000 '1.2' 00`

	storeAnswer = `04 00 0000006e 0000006a 03 03
		0000 0000 04000000 5c000000
		0000 0200 20000000 '1.2.840.10008.5.1.4.1.1.501.2.1' 00
		0000 0001 02000000 0180
		0000 2001 02000000 0900
		0000 0008 02000000 0101
		0000 0009 02000000 0000
		0000 0010 04000000 '1.2' 00`

	releaseRequest = `05 00 00000004 00000000`
	releaseAnswer  = `06 00 00000004 00000000`
)

func parsed() Associate {
	return Associate{
		Version: 1, Called: "LANEPOST", Calling: "SCANNER", Application: ApplicationContext, MaxLength: 16384, Class: "1.2.3", Release: "abc",
		Contexts: []Context{
			{ID: 1, Abstract: Verification, Transfers: []string{ImplicitLE}},
			{ID: 3, Abstract: "1.2.840.10008.5.1.4.1.1.501.2.1", Transfers: []string{ImplicitLE, Verification}},
		},
		Identity: &Identity{Kind: IdentityPasscode, Answer: true, Name: "lane", Passcode: "secret"},
	}
}

func TestAssociate(t *testing.T) {
	var s Splitter
	s.Write(unhex(t, proposal))
	p, ok, err := s.Next()
	require.NoError(t, err)
	require.True(t, ok)
	a, err := ParseAssociate(p)
	require.NoError(t, err)
	require.Equal(t, parsed(), a)
	require.Equal(t, unhex(t, proposal), a.Append(nil, AssociateRQ))

	s.Write(unhex(t, acceptance))
	p, ok, err = s.Next()
	require.NoError(t, err)
	require.True(t, ok)
	a, err = ParseAssociate(p)
	require.NoError(t, err)
	require.Equal(t, []Context{{ID: 1, Transfers: []string{ImplicitLE}}, {ID: 3, Result: NoTransfer}}, a.Contexts)
	require.Equal(t, uint32(65536), a.MaxLength)
	require.True(t, a.IdentityAnswered)
}

func TestAssociateRefusesWhatIsBroken(t *testing.T) {
	for name, broken := range map[string][2]string{
		"an even id":                    {"03 00 00 00", "02 00 00 00"},
		"an id twice":                   {"03 00 00 00", "01 00 00 00"},
		"an item that is too long":      {"20 00 002e", "20 00 ffff"},
		"an identity that is too short": {"0006 'secret'", "0007 'secret'"},
		"a maximum of another length":   {"51 00 0004 00004000", "51 00 0002 0000 6000 0000"},
		"a UID with a blank":            {"'1.2.840.10008.5.1.4.1.1.501.2.1'", "'1.2.840.10008.5.1.4.1.1 501.2.1'"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(proposal, broken[0], broken[1], 1)
			require.NotEqual(t, proposal, text)
			_, err := ParseAssociate(PDU{AssociateRQ, unhex(t, text)[pduHeader:]})
			require.Error(t, err)
		})
	}
}

func TestCommands(t *testing.T) {
	for text, want := range map[string]Command{
		echoRequest:  {Field: EchoRQ, ID: 7, Class: Verification},
		echoAnswer:   {Field: EchoRSP, Responding: 7, Class: Verification},
		storeRequest: {Field: StoreRQ, ID: 9, Class: "1.2.840.10008.5.1.4.1.1.501.2.1", Instance: "1.2", DataSet: true},
		storeAnswer:  {Field: StoreRSP, Responding: 9, Class: "1.2.840.10008.5.1.4.1.1.501.2.1", Instance: "1.2"},
	} {
		whole := unhex(t, text)
		list, err := ParseData(whole[pduHeader:])
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.True(t, list[0].Command && list[0].Last)
		c, err := ParseCommand(list[0].Bytes)
		require.NoError(t, err)
		require.Equal(t, want, c)
		require.Equal(t, list[0].Bytes, c.Append(nil))
	}
}

func TestShortUnits(t *testing.T) {
	require.Equal(t, unhex(t, "03 00 00000004 00 01 01 07"), RejectCalled.Append(nil))
	require.Equal(t, unhex(t, "07 00 00000004 00 00 02 06"), Abort{ByProvider, 6}.Append(nil))
	r, err := ParseReject([]byte{0, 1, 1, 3})
	require.NoError(t, err)
	require.Equal(t, RejectCalling, r)
	a, err := ParseAbort([]byte{0, 0, 2, 1})
	require.NoError(t, err)
	require.Equal(t, Abort{ByProvider, 1}, a)
}

func policy() Policy {
	return Policy{
		Title: "LANEPOST", Roots: []string{"1.2.840.10008.5.1.4.1.1.501."}, Transfers: []string{ExplicitLE, ImplicitLE}, MaxObject: 1 << 10,
		Class: "1.2.3.4.5", Release: "lane1",
	}
}

// drive gives a receiver what a peer sends, in pieces, and collects what comes out. Objects
// are answered with success.
func drive(r *Receiver, input []byte, step int) (actions []Action, sent []byte) {
	for len(input) > 0 {
		n := min(step, len(input))
		r.Write(input[:n])
		input = input[n:]
		for a, ok := r.Next(); ok; a, ok = r.Next() {
			actions = append(actions, a)
			sent = append(sent, a.Send...)
			if a.Kind == Stored {
				sent = append(sent, r.Answer(a.Object, Success, "")...)
			}
		}
	}
	return actions, sent
}

func kinds(actions []Action) (list []Kind) {
	for _, a := range actions {
		list = append(list, a.Kind)
	}
	return list
}

func TestReceiver(t *testing.T) {
	// What comes, in any pieces, and what is said to it.
	const dataSet = `04 00 0000000a 00000006 03 00 'abcd'
		04 00 00000010 00000004 03 00 'ef' 00000004 03 02 'gh'`
	admit := func(i *Identity) bool { return i != nil && i.Name == "lane" && i.Passcode == "secret" }
	for _, step := range []int{1, 7, 10_000} {
		p := policy()
		p.Admit = admit
		r := &Receiver{Policy: p}
		actions, sent := drive(r, unhex(t, proposal+echoRequest+storeRequest+dataSet+echoRequest+releaseRequest), step)
		require.Equal(t, []Kind{Associated, Echoed, Stored, Echoed, Released}, kinds(actions), "step %d", step)
		o := actions[2].Object
		require.Equal(t, "abcdefgh", string(o.DataSet))
		require.Equal(t, ImplicitLE, o.Transfer)
		require.Equal(t, "1.2", o.Instance)
		// The second context was proposed with a transfer syntax that is one, so it is accepted.
		both := strings.Replace(acceptance, "03 00 04 00", "03 00 00 00", 1)
		require.Equal(t, unhex(t, both+echoAnswer+storeAnswer+echoAnswer+releaseAnswer), sent)
		what, _ := r.Unfinished()
		require.Empty(t, what)
	}
}

func TestReceiverChoosesContexts(t *testing.T) {
	r := &Receiver{Policy: policy()}
	a := parsed()
	a.Contexts = []Context{
		{ID: 1, Abstract: "1.2.840.10008.5.1.4.1.1.501.3", Transfers: []string{ImplicitLE, ExplicitLE}},
		{ID: 3, Abstract: "1.2.840.10008.5.1.4.1.1.2", Transfers: []string{ImplicitLE}}, // a CT of a hospital
		{ID: 5, Abstract: "1.2.840.10008.5.1.4.1.1.501.3", Transfers: []string{"1.2.840.10008.1.2.2"}},
		{ID: 7, Abstract: Verification, Transfers: []string{ImplicitLE}},
	}
	_, sent := drive(r, a.Append(nil, AssociateRQ), 1000)
	got, err := ParseAssociate(PDU{AssociateAC, sent[pduHeader:]})
	require.NoError(t, err)
	require.Equal(t, []Context{
		{ID: 1, Transfers: []string{ExplicitLE}}, {ID: 3, Result: NoAbstract}, {ID: 5, Result: NoTransfer}, {ID: 7, Transfers: []string{ImplicitLE}},
	}, got.Contexts)
	require.False(t, got.IdentityAnswered, "nobody looked at the identity")
}

func TestReceiverRefusesAssociations(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Associate, *Policy)
		want   string
	}{
		"another version":    {func(a *Associate, _ *Policy) { a.Version = 2 }, "03 00 00000004 00 01 02 02"},
		"another context":    {func(a *Associate, _ *Policy) { a.Application = "1.2.3" }, "03 00 00000004 00 01 01 02"},
		"another name":       {func(a *Associate, _ *Policy) { a.Called = "OTHER" }, "03 00 00000004 00 01 01 07"},
		"another caller":     {func(_ *Associate, p *Policy) { p.Callers = []string{"OTHER"} }, "03 00 00000004 00 01 01 03"},
		"the wrong passcode": {func(_ *Associate, p *Policy) { p.Admit = func(*Identity) bool { return false } }, "03 00 00000004 00 01 02 01"},
	} {
		t.Run(name, func(t *testing.T) {
			a, p := parsed(), policy()
			c.change(&a, &p)
			actions, sent := drive(&Receiver{Policy: p}, append(a.Append(nil, AssociateRQ), unhex(t, echoRequest)...), 1000)
			require.Equal(t, []Kind{Refused}, kinds(actions))
			require.Error(t, actions[0].Err)
			require.Equal(t, unhex(t, c.want), sent)
		})
	}
}

func TestReceiverBreaksOff(t *testing.T) {
	for name, c := range map[string]struct{ input, want string }{
		"no DICOM":                  {"'GET / HTTP'", "07 00 00000004 0000 02 01"},
		"data before a proposal":    {echoRequest, "07 00 00000004 0000 02 02"},
		"a second proposal":         {proposal + proposal, "07 00 00000004 0000 02 02"},
		"a unit without end":        {proposal + "04 00 7fffffff", "07 00 00000004 0000 02 06"},
		"a context of nobody":       {proposal + "04 00 00000006 00000002 05 03", "07 00 00000004 0000 02 06"},
		"a data set without":        {proposal + "04 00 00000006 00000002 03 02", "07 00 00000004 0000 02 02"},
		"a fragment that is longer": {proposal + "04 00 00000006 00000003 03 02", "07 00 00000004 0000 02 06"},
		"a message in a message":    {proposal + storeRequest + echoRequest, "07 00 00000004 0000 02 02"},
		"a release in a message":    {proposal + storeRequest + releaseRequest, "07 00 00000004 0000 02 02"},
		"an answer":                 {proposal + echoAnswer, "07 00 00000004 0000 02 02"},
		"no command":                {proposal + "04 00 00000008 00000004 03 03 0000", "07 00 00000004 0000 02 06"},
	} {
		t.Run(name, func(t *testing.T) {
			actions, sent := drive(&Receiver{Policy: policy()}, unhex(t, c.input), 1000)
			require.Equal(t, Broken, actions[len(actions)-1].Kind)
			require.Error(t, actions[len(actions)-1].Err)
			require.Equal(t, unhex(t, c.want), sent[len(sent)-10:])
		})
	}
}

func TestReceiverTellsWhatIsUnfinished(t *testing.T) {
	r := &Receiver{Policy: policy()}
	_, _ = drive(r, unhex(t, proposal+storeRequest+"04 00 0000000a 00000006 03 00 'abcd'"), 1000)
	what, head := r.Unfinished()
	require.Equal(t, "the object 1.2, of which 4 bytes have come", what)
	require.Equal(t, "abcd", string(head))
	actions, sent := drive(r, unhex(t, "07 00 00000004 0000 00 00"), 1000)
	require.Equal(t, []Kind{Broken}, kinds(actions))
	require.Empty(t, sent, "an abort is not answered")
	what, _ = r.Unfinished()
	require.Contains(t, what, "the object 1.2")
}

func TestReceiverHasNoRoom(t *testing.T) {
	object := func(n int) []byte {
		return AppendMessage(nil, 3, Command{Field: StoreRQ, ID: 9, Class: "1.2.840.10008.5.1.4.1.1.501.2.1", Instance: "1.2", DataSet: true}, make([]byte, n), 64)
	}
	status := func(sent []byte) Status {
		list, err := ParseData(sent[pduHeader:])
		require.NoError(t, err)
		c, err := ParseCommand(list[0].Bytes)
		require.NoError(t, err)
		return c.Status
	}
	r := &Receiver{Policy: policy()}
	drive(r, unhex(t, proposal), 1000)
	actions, sent := drive(r, object(1025), 1000)
	require.Equal(t, []Kind{NotStored}, kinds(actions))
	require.Equal(t, Status(0xa700), status(sent))
	require.Equal(t, 1025, actions[0].Object.Size)
	actions, sent = drive(r, object(1024), 1000)
	require.Equal(t, []Kind{Stored}, kinds(actions))
	require.Equal(t, Success, status(sent))
	require.Len(t, actions[0].Object.DataSet, 1024)

	held := 0
	p := policy()
	p.Reserve, p.Free = func(n int) bool { held += n; return held <= 100 || func() bool { held -= n; return false }() }, func(n int) { held -= n }
	r = &Receiver{Policy: p}
	drive(r, unhex(t, proposal), 1000)
	_, sent = drive(r, object(400), 1000)
	require.Equal(t, OutOfResources, status(sent))
	require.Zero(t, held)
	_, sent = drive(r, object(90), 1000)
	require.Equal(t, Success, status(sent))
	require.Zero(t, held, "what was answered takes no room")
	drive(r, object(90)[:200], 1000)
	require.NotZero(t, held)
	r.Close()
	require.Zero(t, held)
}

func TestReceiverRefusesWhatIsNoStore(t *testing.T) {
	for name, c := range map[string]struct {
		command Command
		want    Status
	}{
		"another class":  {Command{Field: StoreRQ, ID: 1, Class: "1.2.840.10008.5.1.4.1.1.2", Instance: "1.2", DataSet: true}, 0x0122},
		"no instance":    {Command{Field: StoreRQ, ID: 1, Class: "1.2.840.10008.5.1.4.1.1.501.3", DataSet: true}, 0xc000},
		"no data set":    {Command{Field: StoreRQ, ID: 1, Class: "1.2.840.10008.5.1.4.1.1.501.3", Instance: "1.2"}, 0xc000},
		"another demand": {Command{Field: 0x0020, ID: 1, Class: "1.2.840.10008.5.1.4.1.2.2.1", DataSet: true}, 0x0211},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Receiver{Policy: policy()}
			drive(r, unhex(t, proposal), 1000)
			actions, sent := drive(r, AppendMessage(nil, 3, c.command, []byte("abcd"), 0), 1000)
			require.Equal(t, []Kind{NotStored}, kinds(actions))
			list, err := ParseData(sent[pduHeader:])
			require.NoError(t, err)
			got, err := ParseCommand(list[0].Bytes)
			require.NoError(t, err)
			require.Equal(t, c.want, got.Status)
			require.Equal(t, c.command.Field|0x8000, got.Field)
			require.Equal(t, c.command.ID, got.Responding)
		})
	}
}

func FuzzReceiver(f *testing.F) {
	for _, text := range []string{proposal + echoRequest + storeRequest, proposal + storeRequest + "04 00 00000008 00000004 03 02 'ab'" + releaseRequest} {
		f.Add(unhex(f, text), 5)
	}
	f.Fuzz(func(t *testing.T, input []byte, step int) {
		if step < 1 {
			step = 1
		}
		held := 0
		p := policy()
		p.Reserve, p.Free = func(n int) bool { held += n; return true }, func(n int) { held -= n }
		r := &Receiver{Policy: p}
		actions, _ := drive(r, input, step)
		for _, a := range actions {
			if a.Kind == Stored && len(a.Object.DataSet) > p.MaxObject {
				t.Fatal("an object is larger than it may be")
			}
		}
		whole, _ := drive(&Receiver{Policy: policy()}, input, len(input)+1)
		if len(whole) != len(actions) {
			t.Fatalf("%d actions in pieces, %d at once", len(actions), len(whole))
		}
		r.Close()
		if held != 0 {
			t.Fatalf("%d bytes are still reserved", held)
		}
	})
}

func FuzzAssociate(f *testing.F) {
	for _, text := range []string{proposal, acceptance} {
		f.Add(unhex(f, text)[pduHeader:], text == acceptance)
	}
	f.Fuzz(func(t *testing.T, body []byte, answer bool) {
		kind := AssociateRQ
		if answer {
			kind = AssociateAC
		}
		a, err := ParseAssociate(PDU{kind, body})
		if err != nil {
			return
		}
		if _, err := ParseAssociate(PDU{kind, a.Append(nil, kind)[pduHeader:]}); err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
	})
}

// unhex reads hex, in which 'text' stands for itself.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var all []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			all = append(all, part...)
			continue
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
		require.NoError(t, err)
		all = append(all, b...)
	}
	return all
}
