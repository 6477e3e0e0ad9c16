package onvif

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The digest of the standard's form, computed with a tool of its own:
// printf 'LKqI6G/AikKCQrN0zqZFlg==' | base64 -d, the time and "userpassword".
func TestTheLogin(t *testing.T) {
	nonce, err := base64.StdEncoding.DecodeString("LKqI6G/AikKCQrN0zqZFlg==")
	require.NoError(t, err)
	l := &Login{Nonce: nonce, Created: "2010-09-16T07:50:45Z", Digest: "tuOSpGlFlIXsozq4HFNeeGeFLEI="}
	require.True(t, l.Matches("userpassword"))
	require.False(t, l.Matches("userpasswore"))
	made := NewLogin("u", "p", []byte{1}, time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.FixedZone("", 7200)))
	require.Equal(t, "2026-03-01T10:00:00.500Z", made.Created)
	require.True(t, made.Matches("p"))
}

const pulled = `<?xml version="1.0" encoding="UTF-8"?>
<env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope" xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" xmlns:tev="http://www.onvif.org/ver10/events/wsdl" xmlns:tt="http://www.onvif.org/ver10/schema">
<env:Body><tev:PullMessagesResponse>
<tev:CurrentTime>2026-03-01T10:12:52Z</tev:CurrentTime><tev:TerminationTime>2026-03-01T10:15:52Z</tev:TerminationTime>
<wsnt:NotificationMessage><wsnt:Topic Dialect="x"> tns1:RuleEngine/Recognition/LicensePlate </wsnt:Topic><wsnt:Message>
<tt:Message UtcTime="2026-03-01T10:12:51.250Z"><tt:Source><tt:SimpleItem Name="VideoSource" Value="vs1"/><tt:SimpleItem Name="Rule" Value="lane"/></tt:Source>
<tt:Data><tt:SimpleItem Name="Likelihood" Value="0.5"/><tt:SimpleItem Name="Label" Value="Whitelisted"/><tt:SimpleItem Name="Image" Value="/9j/"/>
<tt:ElementItem Name="LicensePlateInfo"><tt:LicensePlateInfo><tt:PlateNumber Likelihood="0.93">AA1234BB</tt:PlateNumber><tt:PlateType>Normal</tt:PlateType><tt:CountryCode Likelihood="0.4">UA</tt:CountryCode></tt:LicensePlateInfo></tt:ElementItem>
<tt:ElementItem Name="VehicleInfo"><tt:VehicleInfo><tt:Type Likelihood="0.9">Truck</tt:Type></tt:VehicleInfo></tt:ElementItem></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>
<wsnt:NotificationMessage><wsnt:Topic>tns1:RuleEngine/VehicleDetector/tnshik:Vehicle</wsnt:Topic><wsnt:Message>
<tt:Message UtcTime="2026-03-01T10:12:52Z" PropertyOperation="Changed"><tt:Source/><tt:Data><tt:SimpleItem Name="PlateNumber" Value="BB77&amp;1"/><tt:SimpleItem Name="Likelihood" Value="930"/>
<tt:SimpleItem Name="Nation" Value="11"/><tt:SimpleItem Name="VehicleDirection" Value="forward"/></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>
<wsnt:NotificationMessage><wsnt:Topic>tns1:VideoSource/MotionAlarm</wsnt:Topic><wsnt:Message><tt:Message UtcTime="2026-03-01T10:12:52Z"><tt:Data><tt:SimpleItem Name="State" Value="true"/></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>
</tev:PullMessagesResponse></env:Body></env:Envelope>`

func TestPulledMessages(t *testing.T) {
	r, err := DecodeResponse([]byte(pulled), PullMessages)
	require.NoError(t, err)
	require.Len(t, r.Notifications, 3)
	require.Equal(t, time.Date(2026, 3, 1, 10, 15, 52, 0, time.UTC), r.Termination)

	read, ok := r.Notifications[0].Read(KnownItems())
	require.True(t, ok)
	require.Equal(t, Read{
		Topic: TopicLicensePlate, UTCTime: "2026-03-01T10:12:51.250Z", Plate: "AA1234BB", PlateType: "Normal", Confidence: "0.93", Country: "UA",
		Label: "Whitelisted", VideoSource: "vs1", Rule: "lane", VehicleType: "Truck", Image: []byte{0xff, 0xd8, 0xff},
	}, read)
	read, ok = r.Notifications[1].Read(KnownItems())
	require.True(t, ok)
	require.Equal(t, Read{
		Topic: TopicHikvision, UTCTime: "2026-03-01T10:12:52Z", Operation: "Changed", Plate: "BB77&1", Confidence: "930", Country: "11", Direction: "forward",
	}, read)
	_, ok = r.Notifications[2].Read(KnownItems())
	require.False(t, ok)
	_, err = DecodeResponse([]byte(pulled), Renew)
	require.ErrorContains(t, err, "none to Renew")
}

func TestAByteOrderMark(t *testing.T) {
	r, err := DecodeResponse([]byte("\xef\xbb\xbf"+pulled), PullMessages)
	require.NoError(t, err)
	require.Len(t, r.Notifications, 3)
	raw := string(r.Notifications[1].Raw)
	require.True(t, strings.HasPrefix(raw, "<wsnt:NotificationMessage>") && strings.HasSuffix(raw, "</wsnt:NotificationMessage>"), raw)
}

func TestTheOtherAnswers(t *testing.T) {
	r, err := DecodeResponse([]byte(`<Envelope><Body><GetSystemDateAndTimeResponse><SystemDateAndTime><UTCDateTime><Time><Hour>9</Hour><Minute>8</Minute><Second>7</Second></Time><Date><Year>2026</Year><Month>3</Month><Day>1</Day></Date></UTCDateTime></SystemDateAndTime></GetSystemDateAndTimeResponse></Body></Envelope>`), GetSystemDateAndTime)
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 3, 1, 9, 8, 7, 0, time.UTC), r.System)
	_, err = DecodeResponse([]byte(`<Envelope><Body><GetSystemDateAndTimeResponse/></Body></Envelope>`), GetSystemDateAndTime)
	require.Error(t, err)

	r, err = DecodeResponse([]byte(`<Envelope><Body><CreatePullPointSubscriptionResponse><SubscriptionReference><Address> http://10.0.0.9/onvif/sub?id=7 </Address></SubscriptionReference></CreatePullPointSubscriptionResponse></Body></Envelope>`), CreatePullPointSubscription)
	require.NoError(t, err)
	require.Equal(t, "http://10.0.0.9/onvif/sub?id=7", r.Subscription)
	_, err = DecodeResponse([]byte(`<Envelope><Body><CreatePullPointSubscriptionResponse/></Body></Envelope>`), CreatePullPointSubscription)
	require.Error(t, err)

	_, err = DecodeResponse([]byte(`<Envelope><Body><Fault><Code><Value>env:Sender</Value><Subcode><Value>ter:NotAuthorized</Value></Subcode></Code><Reason><Text>Sender not Authorized</Text></Reason></Fault></Body></Envelope>`), Renew)
	var f *Fault
	require.ErrorAs(t, err, &f)
	require.Equal(t, &Fault{Code: "Sender", Subcodes: []string{"NotAuthorized"}, Reason: "Sender not Authorized"}, f)
	require.True(t, f.NotAuthorized())
	_, err = DecodeResponse(f.Encode(), Renew)
	require.Equal(t, f, err)
	_, err = DecodeResponse([]byte(`<Envelope><Body><Fault><faultcode>S:Server</faultcode><faultstring>busy</faultstring></Fault></Body></Envelope>`), Renew)
	require.ErrorAs(t, err, &f)
	require.False(t, f.NotAuthorized())
}

func TestProfileM(t *testing.T) {
	n, err := DecodeEvent("site/cam7/onvif-ej/RuleEngine/Recognition/LicensePlate/&vs1/lane", []byte(
		`{"UtcTime":"2026-03-01T10:12:51Z","Source":{"VideoSource":"vs1","Rule":"lane"},"Data":{"Likelihood":0.5,"LicensePlateInfo":{"PlateNumber":{"@Likelihood":0.9,"#text":"AA1234BB"},"CountryCode":"UA"}}}`))
	require.NoError(t, err)
	r, ok := n.Read(KnownItems())
	require.True(t, ok)
	require.Equal(t, Read{Topic: TopicLicensePlate, UTCTime: "2026-03-01T10:12:51Z", Plate: "AA1234BB", Confidence: "0.9", Country: "UA", VideoSource: "vs1", Rule: "lane"}, r)
	_, err = DecodeEvent("x", []byte(`{"a":1}`))
	require.Error(t, err)
	_, err = DecodeEvent("x", []byte(`{"Data":{}} {}`))
	require.Error(t, err)

	want := []Read{{UTCTime: "2026-03-01T10:12:51Z", Object: "12", Plate: "AA1234BB", Confidence: "0.9"}}
	for _, text := range []string{
		`{"Frame":[{"@UtcTime":"2026-03-01T10:12:51Z","Object":[{"@ObjectId":12,"Appearance":{"LicensePlateInfo":{"PlateNumber":{"@Likelihood":0.9,"#text":"AA1234BB"}}}},{"@ObjectId":13}]}]}`,
		`{"Frame":{"@UtcTime":"2026-03-01T10:12:51Z","Object":{"@ObjectId":"12","Appearance":{"LicensePlateInfo":{"PlateNumber":{"@Likelihood":"0.9","#text":"AA1234BB"}}}}}}`,
		`{"tt:VideoAnalytics":{"tt:Frame":{"@UtcTime":"2026-03-01T10:12:51Z","tt:Object":{"@ObjectId":"12","tt:Appearance":{"tt:LicensePlateInfo":{"tt:PlateNumber":{"@Likelihood":"0.9","#text":"AA1234BB"}}}}}}}`,
	} {
		got, err := DecodeMetadata([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := DecodeMetadata([]byte(`{"Frame":{"Object":{"Appearance":{"LicensePlateInfo":{"PlateNumber":"AA1234BB"}}}}}`))
	require.NoError(t, err)
	require.Equal(t, []Read{{Plate: "AA1234BB"}}, got)
	_, err = DecodeMetadata([]byte(`{}`))
	require.Error(t, err)
	require.True(t, IsMetadata("p/onvif-mj/VideoAnalytics/1/2"))
	require.False(t, IsMetadata("p/onvif-ej/x"))
}

func TestWhatIsRefused(t *testing.T) {
	for want, text := range map[string]string{
		"DTD":         `<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>`,
		"well-formed": `<a><b`,
		"no element":  ` `,
		"more than":   strings.Repeat("<a>", MaxDepth+1) + strings.Repeat("</a>", MaxDepth+1),
		"elements":    "<a>" + strings.Repeat("<b/>", MaxElements) + "</a>",
	} {
		_, err := DecodeRequest([]byte(text))
		require.ErrorContains(t, err, want)
	}
	for _, text := range []string{`[]`, `null`, `{"Data":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, `{"Data":[` + strings.Repeat("1,", MaxElements) + `1]}`} {
		_, err := DecodeEvent("", []byte(text))
		require.Error(t, err)
	}
	_, err := parseXML(make([]byte, MaxDocument+1))
	require.Error(t, err)
	_, err = Request{Operation: "Reboot"}.Encode()
	require.Error(t, err)
	many := strings.Replace(pulled, "</tev:PullMessagesResponse>", strings.Repeat("<NotificationMessage/>", MaxNotifications)+"</tev:PullMessagesResponse>", 1)
	_, err = DecodeResponse([]byte(many), PullMessages)
	require.ErrorContains(t, err, "1027 notifications")
}

func TestDurationsAndTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{"PT180S": 3 * time.Minute, "PT1M0.5S": 60500 * time.Millisecond, "P1DT1H": 25 * time.Hour} {
		d, err := parseDuration(text)
		require.NoError(t, err)
		require.Equal(t, want, d)
	}
	_, err := parseDuration("P1Y")
	require.Error(t, err)
	_, zoned, ok := ParseTime("2026-03-01T10:12:51.25+02:00")
	require.True(t, zoned && ok)
	_, zoned, ok = ParseTime("2026-03-01T10:12:51.25")
	require.True(t, !zoned && ok)
}

func TestRoundTrips(t *testing.T) {
	at := time.Date(2026, 3, 1, 10, 12, 51, 0, time.UTC)
	for _, o := range Operations() {
		r := Request{Operation: o, To: "/sub?id=1&x", MessageID: "urn:uuid:1", Login: NewLogin("a<b", "p", []byte{1, 2}, at)}
		switch o {
		case CreatePullPointSubscription, Renew:
			r.Termination = 3 * time.Minute
		case PullMessages:
			r.Timeout, r.Limit = 20*time.Second, 10
		}
		b, err := r.Encode()
		require.NoError(t, err)
		again, err := DecodeRequest(b)
		require.NoError(t, err)
		require.Equal(t, r, again)

		a := Response{Operation: o}
		switch o {
		case GetSystemDateAndTime:
			a.System = at
		case CreatePullPointSubscription:
			a.Subscription, a.Current, a.Termination = "http://x/y?a=1&b=2", at, at.Add(time.Minute)
		case Renew:
			a.Current, a.Termination = at, at.Add(time.Minute)
		case PullMessages:
			a.Current, a.Termination = at, at.Add(time.Minute)
			a.Notifications = []Notification{{
				Topic: "tns1:" + TopicLicensePlate, UTCTime: "t<", Operation: "Changed", Source: []Item{{"Rule", `"r"`}}, Key: []Item{{"k", "1"}}, Data: []Item{{"Label", "a&b"}},
				Plate: &PlateInfo{Number: Value{"Ж<1", "0.5"}, Country: Value{"UA", ""}}, Vehicle: &VehicleInfo{Type: Value{"Truck", "1"}}, Image: []byte{1, 2, 3},
			}}
		}
		b, err = a.Encode()
		require.NoError(t, err)
		back, err := DecodeResponse(b, o)
		require.NoError(t, err)
		for i := range back.Notifications {
			raw := string(back.Notifications[i].Raw)
			require.True(t, strings.HasPrefix(raw, "<n:NotificationMessage>") && strings.HasSuffix(raw, "</n:NotificationMessage>"), raw)
			back.Notifications[i].Raw = nil
		}
		a.CurrentZoned = !a.Current.IsZero()
		require.Equal(t, a, back)
	}
	n := Notification{
		Topic: TopicLicensePlate, UTCTime: "t", Source: []Item{{"Rule", "r"}}, Data: []Item{{"Label", "a"}},
		Plate: &PlateInfo{Number: Value{"Ж1", "0.5"}, Country: Value{"UA", ""}}, Vehicle: &VehicleInfo{Type: Value{"Truck", "1"}}, Image: []byte{1, 2, 3},
	}
	topic, b, err := n.EncodeEvent()
	require.NoError(t, err)
	require.Equal(t, "onvif-ej/RuleEngine/Recognition/LicensePlate/&r", topic)
	again, err := DecodeEvent(topic, b)
	require.NoError(t, err)
	n.Raw = b
	require.Equal(t, n, again)
	b, err = EncodeMetadata("t", "7", *n.Plate)
	require.NoError(t, err)
	reads, err := DecodeMetadata(b)
	require.NoError(t, err)
	require.Equal(t, []Read{{UTCTime: "t", Object: "7", Plate: "Ж1", Confidence: "0.5", Country: "UA"}}, reads)
}

// FuzzXML: nothing breaks the decoders of XML.
func FuzzXML(f *testing.F) {
	f.Add([]byte(pulled))
	f.Add((&Fault{Code: "Sender", Subcodes: []string{"x"}}).Encode())
	for _, o := range Operations() {
		b, err := Request{Operation: o, Login: NewLogin("a", "b", []byte{1}, time.Unix(0, 0))}.Encode()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRequest(b); err == nil {
			_, err = r.Encode()
			require.NoError(t, err)
		}
		for _, o := range Operations() {
			r, err := DecodeResponse(b, o)
			if err != nil {
				continue
			}
			for _, n := range r.Notifications {
				n.Read(KnownItems())
			}
		}
	})
}

// FuzzJSON does the same for JSON.
func FuzzJSON(f *testing.F) {
	f.Add("p/onvif-ej/x/&y", []byte(`{"UtcTime":"t","Source":{"Rule":"r"},"Data":{"LicensePlateInfo":{"PlateNumber":{"@Likelihood":0.9,"#text":"A"}},"Image":"AAAA"}}`))
	f.Add("onvif-mj/x", []byte(`{"Frame":[{"@UtcTime":"t","Object":[{"@ObjectId":12,"Appearance":{"LicensePlateInfo":{"PlateNumber":"A"},"VehicleInfo":{"Type":"x"}}}]}]}`))
	f.Fuzz(func(t *testing.T, topic string, b []byte) {
		if n, err := DecodeEvent(topic, b); err == nil {
			n.Read(KnownItems())
		}
		_, _ = DecodeMetadata(b)
	})
}
