package event

import "time"

// The examples tell one story: a lorry drives through a four-detector portal,
// with a source on the right of it. All numbers are made up; that they agree
// with each other and with the raw records is tested.

const (
	exampleSite      = "medyka"
	exampleAgent     = "entry3-box-4c91ae"
	exampleOccupancy = "019ceb6f-52d4-7c1e-9a40-3f0d5b8e6a21"
	exampleRead      = "019ceb6f-5a3d-7b1f-8d20-64c9e0a7f315"
	exampleNoRead    = "019ceb7a-82fe-7c35-9f61-0b8d27e4a15c"
	exampleConnect   = "tcp://10.0.3.21:1600"
	exampleProfile   = "rapiscan-tsa"
)

var exampleLabels = []string{"left-1", "left-2", "right-1", "right-2"}

var exampleReader = PlateReader{
	Vendor: "dahua", Model: "ITC413-PW4D", Serial: "6E0412FPAG00158", Firmware: "2.800.0000000.7.R", Camera: "1", Lane: "1",
}

var exampleIdentifier = RadiationInstrument{
	Manufacturer: "Example Portals", Model: "SP 4", Serial: "SP-0042", Software: "2.1", ClassRaw: "Spectroscopic Portal Monitor", BatteryPercent: pointer(87.0),
}

// clockOf gives a time of the day of the examples: "15:04:05.000".
func clockOf(clock string) Time {
	t, err := time.Parse(TimeLayout, "2026-03-14T"+clock+"Z")
	if err != nil {
		return Time{} // the tests see to it that none is wrong
	}
	return At(t)
}

func pointer[T any](v T) *T { return &v }

func byPortal(id, clock, recorded, subject string) Header {
	h := byAgent(id, clock, recorded)
	h.Source, h.Subject = Source(exampleSite, "entry-3", "rpm-1"), subject
	return h
}

func byDevice(device, id, clock, recorded string) Header {
	h := byAgent(id, clock, recorded)
	h.Source = Source(exampleSite, "entry-3", device)
	return h
}

func byCamera(id, clock, recorded, device, subject string) Header {
	h := byDevice("anpr-1", id, clock, recorded)
	h.DeviceTime, h.Subject = pointer(clockOf(device)), subject
	return h
}

func byScale(id, clock, recorded, weighing string) Header {
	h := byDevice("scale-1", id, clock, recorded)
	h.Subject = weighing
	return h
}

func byReader(id, clock, recorded, device, passage string) Header {
	h := byDevice("rfid-1", id, clock, recorded)
	h.DeviceTime, h.Subject = pointer(clockOf(device)), passage
	return h
}

func cycleHeader() Header {
	h := byDevice("plc-1", "019ceb9c-2d41-7d02-93b8-0c5e7a4f61d9", "09:10:06.700", "09:10:06.913")
	h.Subject = "019ceb9c-1178-7e15-9b30-6d2c81f4a097"
	return h
}

func byDocumentReader(id, clock, read string) Header {
	h := byDevice("mrz-1", id, clock, clock)
	h.Subject = read
	return h
}

func byMonitor(id, clock, recorded, alarm string) Header {
	h := byDevice("area-1", id, clock, recorded)
	h.Subject = alarm
	return h
}

// oneReading is a quantity that was told once.
func oneReading(v float64) *Spread { return &Spread{Readings: 1, Min: v, Max: v, Last: v} }

func byScanner(id, clock, recorded, device, scan string) Header {
	h := byDevice("xray-1", id, clock, recorded)
	h.Subject = scan
	if device != "" {
		h.DeviceTime = pointer(clockOf(device))
	}
	return h
}

func byIdentifier(id, clock, recorded, device, identification string) Header {
	h := byDevice("rpm-2", id, clock, recorded)
	h.DeviceTime, h.Subject = pointer(clockOf(device)), identification
	return h
}

func byAgent(id, clock, recorded string) Header {
	return Header{
		ID: id, Source: Source(exampleSite, AgentLane, exampleAgent), Agent: exampleAgent,
		Time: clockOf(clock), RecordedTime: clockOf(recorded),
		ClockSync: "yes", ClockMaxErrorMs: pointer(int64(12)),
	}
}

func gamma(at float64, alarm bool, counts ...int) Sample {
	return Sample{OffsetS: at, Counts: counts, Alarm: alarm}
}

func examples() map[string]Example {
	list := []Example{
		{byPortal("019ceb6f-5f42-7a02-b7c1-84d2e05f9b13", "08:21:10.592", "08:21:10.594", exampleOccupancy), 1184, exampleSummary()},
		{byPortal("019ceb6f-5785-7d6b-8c35-e61f09a2477d", "08:21:08.612", "08:21:08.613", exampleOccupancy), 1183, RadiationAlarm{
			OccupancyID: exampleOccupancy, Kind: "gamma", Counts: []int{70, 73, 231, 220}, Detectors: exampleLabels,
			Sum: 1884, BgSumCPS: pointer(1677.0), NSigma: pointer(5.055),
			Raw: RawOf([]byte("GA,000070,000073,000231,000220\r\n")),
		}},
		{byPortal("019ceb6e-c8ec-7b90-a51e-0d7735cc84f2", "08:20:32.107", "08:20:32.108", ""), 58214, RadiationBackground{
			IntervalS: 60, Records: 12,
			GammaCPS: []float64{403.5, 410.25, 434.75, 429.5}, GammaSumMinCPS: 1669, GammaSumMaxCPS: 1686,
			NeutronCPS: []float64{0, 0, 0, 0}, NeutronExact: false, BaselineCPS: pointer(1684.0),
			Detectors: exampleLabels, Gamma: HasData, Neutron: HasData,
			Raw: RawOf([]byte("NB,000000,000000,000000,000000\r\nGB,000402,000411,000436,000428\r\n")),
		}},
		{byPortal("019ceb8a-0294-7355-b0f6-5b1ad4e97c08", "08:50:16.339", "08:50:16.340", ""), 1190, RadiationFault{
			Kind: "gamma_high", State: "raised", CPS: []int{2113, 2087, 440, 431}, Detectors: exampleLabels,
			Raw: RawOf([]byte("GH,002113,002087,000440,000431\r\n")),
		}},
		{byPortal("019ceb90-8e82-7c4e-9d27-f3308e6b51aa", "08:57:25.377", "08:57:25.378", ""), 1192, RadiationTamper{
			State: "on", Raw: RawOf([]byte("TT,000000,000000,000000,000000\r\n")),
		}},
		{byPortal("019cea69-84ab-7e83-8b02-6c94d7f015e9", "03:35:09.738", "03:35:09.739", ""), 1107, RadiationSetupChanged{
			First:   false,
			Changes: []SetupChange{{Name: "n_sigma", Before: "06.0", After: "05.0"}},
			Setup: map[string]string{
				"gamma_high_limit_cps": "002000", "gamma_low_limit_cps": "000070", "alarm_intervals": "05",
				"hold_in_intervals": "10", "n_sigma": "05.0", "sg1_placeholder": "P",
				"detectors_on_line": "1111", "master_lower_level_v": "0.071", "master_upper_level_v": "0.452",
				"relay_mode": "01", "algorithm": "1010", "software": "A",
				"slave_lower_level_v": "0.073", "slave_upper_level_v": "0.449", "gamma_background_s": "020",
				"background_sigma": "000", "firmware": "1.10.2",
				"neutron_high_limit_cps": "000040", "neutron_max_intervals": "03", "neutron_alpha": "0004",
				"neutron_z_max": "1200", "neutron_sequential_intervals": "01", "neutron_background_s": "120",
				"neutron_master_lower_level_v": "0.510", "neutron_master_upper_level_v": "5.020",
				"neutron_slave_lower_level_v": "0.512", "neutron_slave_upper_level_v": "5.018", "sn2_placeholder": "PP",
			},
			Raw: RawOf([]byte("SG1,002000,000070,05,10,05.0,P\r\n" +
				"SG2,1111,0.071,0.452,01,1010,A\r\n" +
				"SG3,0.073,0.449,020,000,1.10.2\r\n" +
				"SN1,000040,03,0004,1200,01,120\r\n" +
				"SN2,0.510,5.020,0.512,5.018,PP\r\n")),
		}},
		{byPortal("019ceb6d-9edc-71d9-a6ab-20c5e17f9d36", "08:19:15.804", "08:19:15.804", ""), 1182, RadiationDiagnostic{
			Kind:   DiagGXCounterJump,
			Detail: "the portal's occupancy counter went from 412 to 415: 2 occupancies were not observed",
			Values: map[string]float64{"before": 412, "after": 415, "missed": 2},
			Raw:    RawOf([]byte("GX,000415,002350,000000,000000\r\n")),
		}},

		{byIdentifier("019ceb70-bdbe-7c51-9d02-6b1fa40e73c8", "08:22:40.316", "08:22:40.318", "08:22:31.000", "019ceb70-bdbc-7a19-8e45-c0d27b96f134"), 1185, RadiationIdentification{
			IdentificationID: "019ceb70-bdbc-7a19-8e45-c0d27b96f134", Outcome: NuclidesIdentified,
			Alarms:   []InstrumentAlarm{{Category: "Isotope", Description: "industrial source", Light: "Red", Detectors: []string{"Gamma"}}},
			Nuclides: []Nuclide{{Name: "Cs-137", Identified: pointer(true), ConfidenceRaw: "0.97", ConfidenceScale: "fraction", Confidence: pointer(0.97), Category: "Industrial"}},
			Occupied: pointer(true), OccupancyRef: "Scan-24",
			MeasuredFromTS: pointer(clockOf("08:22:31.000")), MeasuredToTS: pointer(clockOf("08:22:39.000")),
			Instrument: exampleIdentifier,
			Measurements: []SpectralMeasurement{{
				ID: "F24", Kind: "spectrum", Class: "Foreground", Occupied: pointer(true), Detector: "Gamma", Category: "Gamma",
				StartTS: pointer(clockOf("08:22:31.000")), RealS: pointer(8.0), LiveS: pointer(7.9), Channels: 1024, TotalCounts: pointer(31205.0), CPS: pointer(3950.0),
			}},
			Faults: []InstrumentFault{}, Flags: []string{},
			Document: SpectralDocument{
				Format: "n42-2012", UUID: "4d0f3a52-9b0e-4a57-8d0c-2f6f0e8d6b11", Size: 28514, SHA256: "9e0c6b2d71f4a85e3390d4c7b1625fa80e7d93c41b56f2a8d0e94c37b61f5a02",
			},
			Attachments: []Attachment{{
				SHA256: "9e0c6b2d71f4a85e3390d4c7b1625fa80e7d93c41b56f2a8d0e94c37b61f5a02", Size: 28514, MediaType: "application/n42+xml",
			}},
			Private: &RadiationPrivate{
				Salt: "Zm9vYmFyYmF6cXV4MDEyMw==", Remarks: []string{"Isotope: Cs-137"},
				Items: []Property{{Name: "ContainerID", Value: "CSQU3054383"}}, Properties: []Property{},
			},
		}},
		{byIdentifier("019ceb70-20b6-7e08-a3b7-51f9d26c084e", "08:22:00.117", "08:22:00.118", "08:21:59.000", ""), 58218, RadiationSpectrum{
			IntervalS: 60, Documents: 60, Occupied: pointer(false), Instrument: exampleIdentifier,
			Measurements: []SpectralMeasurement{{
				ID: "F", Kind: "spectrum", Class: "Foreground", Occupied: pointer(false), Detector: "Gamma", Category: "Gamma",
				StartTS: pointer(clockOf("08:21:59.000")), RealS: pointer(0.99989), LiveS: pointer(0.98), Channels: 1024, TotalCounts: pointer(1519.0), CPS: pointer(1550.0),
			}, {
				ID: "F", Kind: "dose_rate", Class: "Foreground", Occupied: pointer(false), Detector: "Gamma", Category: "Gamma",
				StartTS: pointer(clockOf("08:21:59.000")), RealS: pointer(0.99989), DoseRateUSVH: pointer(0.085), DoseRateRaw: "0.085 uSv/h",
			}},
			Faults: []InstrumentFault{}, Flags: []string{},
			Document: SpectralDocument{Format: "n42-2012", Size: 7512, SHA256: "27b9f04d8c15e6a3097ac2d46f5be8103d7162c9e5a8f0b4d31c7e960a54bf12"},
			Attachments: []Attachment{{
				SHA256: "27b9f04d8c15e6a3097ac2d46f5be8103d7162c9e5a8f0b4d31c7e960a54bf12", Size: 7512, MediaType: "application/n42+xml",
			}},
			Private: &RadiationPrivate{Salt: "Zm9vYmFyYmF6cXV4MDEyMw==", Remarks: []string{}, Items: []Property{}, Properties: []Property{}},
		}},
		{byMonitor("019ceb91-8af1-7e05-8c44-d2b91f7a3e60", "08:58:30.000", "08:58:30.001", ""), 58236, RadiationRate{
			IntervalS: 60, Instrument: "G-10", Frames: 60, NoValue: 0, Overloads: 0,
			Channels: []RateChannel{{
				Channel: "gamma", Quantity: "dose_rate", Unit: "uSv/h", Readings: 60, Min: 0.09, Mean: 0.114, Max: 0.14, Last: 0.12, ValueRaw: "12", UnitRaw: "0",
			}},
			Alarms: []string{}, Faults: []string{}, Quality: []string{},
			Raw: RawOf([]byte("\x02 12 0 544 5 00 G-10 9 \r\n\x03")),
		}},
		{byMonitor("019ceb92-098b-7b41-a8f6-0e5d93c172ab", "08:59:02.410", "08:59:02.411", "019ceb92-098a-7c10-9d3a-41f07be6a852"), 1193, RadiationRateAlarm{
			AlarmID: "019ceb92-098a-7c10-9d3a-41f07be6a852", Kind: "threshold", Channel: "", By: ByInstrument, State: "raised",
			Value: pointer(2.31), Unit: "uSv/h", PeakValue: pointer(2.31), ValueRaw: "231", UnitRaw: "0", StartedTS: clockOf("08:59:02.410"),
			Raw: RawOf([]byte("\x02 231 0 9811 5 04 G-10 9 \r\n\x03")),
		}},
		{byDevice("env-1", "019ceb92-2732-7f32-b5c8-96d07e14a3fb", "08:59:10.000", "08:59:10.002"), 58237, RadiationEnvironment{
			IntervalS: 60, Records: 8,
			Detectors: []DetectorEnvironment{{
				Detector: "1", TemperatureC: oneReading(21.55), HumidityPct: oneReading(38.2), PressureHPa: oneReading(1012), DewPointC: oneReading(6.7),
			}},
			Pillars: []PillarEnvironment{{
				Pillar: "master", TemperatureC: oneReading(24.65), HumidityPct: oneReading(31), ThermocoupleC: oneReading(18.35), OutsideHumidityPct: oneReading(55.5),
				BatteryV: oneReading(13.4), DCCurrentA: oneReading(1.2), ACCurrentA: oneReading(0.6),
			}},
			Faults: []string{}, Quality: []string{},
			Raw: RawOf([]byte("!TPDT,294.7,000.0,000.0,000.0,0\r\n#!MBAT,013.4,001.2,00000,000.6,0\r\n#")),
		}},

		{byCamera("019ceb6f-5a3f-7e04-a9d1-2f60b7c8534e", "08:21:09.000", "08:21:09.311", "08:21:09.000", exampleRead), 58215, PlateRead{
			ReadID: exampleRead,
			Capture: PlateCapture{
				Revision: RevisionSingle, VendorEventID: "10442", ReceivedTS: clockOf("08:21:09.309"), TimeSource: TimeFromDevice,
				Reader: exampleReader,
			},
			Direction: "toward", DirectionRaw: "Approach", LaneDirection: "entry",
			Confidence: PlateConfidence{Value: pointer(0.92), Raw: "92", Scale: "0-100"},
			Country:    PlateCountry{Code: "UA", Raw: "UKR"}, PlateColor: "White",
			Vehicle: &PlateVehicle{Type: "HeavyTruck", Color: "White", SpeedKPH: pointer(14.0)},
			Attachments: []Attachment{{
				SHA256: "41d07c95f2b86e3a0c5de91748ab26f0937ce51d8a64b20fe3795c18d06ba2f4", Size: 412733, MediaType: "image/jpeg",
				Name: "20260314-082109-front.jpg",
			}},
			Pseudonym: "02c77d0024562b37d772ceffc4eedb6665f06904034593d9d0491ff1ccbf4d48",
			Private: &PlatePrivate{
				Salt: "q83vASNFZ4kQMlR2mLrc/g==", Plate: "AA1234BB", MatchKey: "AA1234BB", PlateRaw: "AA 1234 BB",
				Alternatives: []PlateAlternative{{Plate: "AA1234B8", Confidence: pointer(0.61)}},
				Raw: RawOf([]byte("Events[0].Code=TrafficJunction\r\nEvents[0].EventID=10442\r\nEvents[0].RealUTC=1773476469\r\n" +
					"Events[0].TrafficCar.PlateNumber=AA 1234 BB\r\nEvents[0].TrafficCar.PlateColor=White\r\n" +
					"Events[0].TrafficCar.DrivingDirection[0]=Approach\r\nEvents[0].TrafficCar.Country=UKR\r\n" +
					"Events[0].TrafficCar.VehicleColor=White\r\nEvents[0].TrafficCar.Speed=14\r\nEvents[0].Vehicle.Category=HeavyTruck\r\n" +
					"Events[0].Object.Confidence=92\r\nEvents[0].Lane=1\r\n")),
			},
		}},
		{byCamera("019ceb7a-8300-7a61-bc48-e5d20f93617b", "08:33:20.000", "08:33:20.640", "08:33:20.000", exampleNoRead), 58222, PlateNoRead{
			ReadID: exampleNoRead, Reason: "marked",
			Capture: PlateCapture{
				Revision: RevisionSingle, VendorEventID: "10447", ReceivedTS: clockOf("08:33:20.638"), TimeSource: TimeFromDevice,
				Reader: exampleReader,
			},
			Direction: "unknown", LaneDirection: "unknown", Attachments: []Attachment{},
			Private: &NoReadPrivate{
				Salt: "7Gq1nZ0Kx4sVbTf2Yd8RaA==", PlateRaw: "Unknown",
				Raw: RawOf([]byte("Events[0].Code=TrafficJunction\r\nEvents[0].EventID=10447\r\nEvents[0].RealUTC=1773477200\r\n" +
					"Events[0].TrafficCar.PlateNumber=Unknown\r\nEvents[0].Lane=1\r\n")),
			},
		}},

		{byScanner("019ceb8a-ad91-7b46-9e0f-d18c42f7a365", "08:51:00.113", "08:51:00.113", "", "1.2.826.0.1.3680043.2.1125.17"), 58231, XrayJoin{
			Outcome: JoinJoined, By: JoinByClock, Certain: true, Inspection: true,
			ScanID: "1.2.826.0.1.3680043.2.1125.17", ScanEvent: "019ceb8a-a6e2-7d04-b1f6-30c8e7a5d912", ScanSource: "/medyka/entry-3/xray-1",
			CycleID: "019ceb89-ac58-7e31-a0b7-4f92d6c81e53", CycleEvent: "019ceb8a-2ff8-7c15-8d24-6ab03f97e1d8", CycleSource: "/medyka/entry-3/plc-1",
			ClockAheadS: pointer(0.412), WaitedS: 30.442,
		}},

		{byScanner("019ceb8d-1e92-7b1e-9d42-6f0c81a5e73b", "08:51:02.000", "08:53:40.114", "08:51:02.000", "1.2.826.0.1.3680043.2.1125.17"), 1191, XrayScan{
			ScanID: "1.2.826.0.1.3680043.2.1125.17", ScanNumber: "17", Revision: 2, Supersedes: "019ceb8a-a6e2-7d04-b1f6-30c8e7a5d912", Completeness: "complete",
			Missing: []string{}, Mode: ScanOperational, Decision: DecisionSuspicious, DecisionRaw: "ALARM", ObjectType: "CARGO", AcquisitionStatus: "SUCCESSFUL",
			Analyses: []XrayAnalysis{{
				By: "machine", Name: "MACHINE", Status: "done", Decision: DecisionSuspicious, ResultRaw: "ALARM", Algorithm: []string{"Example", "2.1"},
				Objects: pointer(4), Alarms: pointer(1), EndedTS: pointer(clockOf("08:51:40.000")),
			}},
			Threats: []XrayThreat{{
				ObjectID: pointer(3), By: "machine", Assessments: []XrayAssessment{{Category: "CONTRABAND", Flag: "THREAT", Probability: pointer(0.75)}},
				Regions: []XrayRegion{{
					Image: "1.2.826.0.1.3680043.2.1125.17.1", Base: &[3]float64{412, 96, 0}, Extents: &[3]float64{48, 30, 1}, Set: pointer(1022),
				}},
				ZEffective: pointer(7.4),
			}},
			StartedTS: pointer(clockOf("08:51:02.000")), TimeSource: TimeFromDeviceZone, ReceivedTS: clockOf("08:53:40.100"), Remarks: []string{},
			Scanner: XrayScanner{Dialect: "dicos", System: "Example X", Site: "south gate", Software: "2.1"}, Containers: []ContainerCode{},
			Files: []XrayFile{
				{Name: "17.dcm", Role: "image", State: "here", SHA256: "0d3e2f7ac5b948166ee1d07c5a92b3f4187ce6d20ba95f3741c8e60d2f9b7a53"},
				{Name: "17-tdr.dcm", Role: "threat_report", State: "here", SHA256: "9f1b6c4de27a08355bd0e91c7f3a6248ce05d7b19a34f68027e5c1d8b60f4a92"},
			},
			Attachments: []Attachment{{
				SHA256: "9f1b6c4de27a08355bd0e91c7f3a6248ce05d7b19a34f68027e5c1d8b60f4a92", Size: 2210, MediaType: "application/dicom", Name: "17-tdr.dcm",
			}},
			Private: &XrayPrivate{
				Salt: "Zm9vYmFyYmF6cXV4MDEyMw==", Plates: []XrayPlate{}, Raw: RawOf(nil),
				Object: &XrayObject{ID: "AA1234BB", Authority: "gate", IDType: "TEXT"},
			},
		}},

		{byScale("019ceb8d-6800-7d1c-8e42-0b9f6a3d57c1", "08:53:41.300", "08:53:58.912", "019ceb8d-2b10-7c44-9a61-5f0b83d7e2c9"), 58232, LaneWeight{
			WeighingID: "019ceb8d-2b10-7c44-9a61-5f0b83d7e2c9", Outcome: WeightStable, WeightKG: pointer(38460.0), PeakKG: pointer(38520.0), TareKG: pointer(0.0),
			Readings: 152, StableReadings: 61, Moved: false, Flags: []string{}, UnitRaw: "kg",
			StartedTS: clockOf("08:53:41.300"), EndedTS: clockOf("08:53:58.900"), DurationS: 17.6,
			Raw: RawOf([]byte("ST,GS,+0038460 kg\r\n")),
		}},

		{byReader("019ceb8d-7b88-7a35-9c17-2e8f4d60b1a3", "08:53:59.600", "08:54:03.912", "08:53:59.571", "019ceb8d-6ab0-7b02-8f5e-6c31a9d7e450"), 58233, LaneTag{
			PassageID: "019ceb8d-6ab0-7b02-8f5e-6c31a9d7e450", Antennas: []int{1, 2}, Reports: 7, PeakRSSIDBM: pointer(-48), Flags: []string{},
			FirstTS: clockOf("08:53:59.600"), LastTS: clockOf("08:54:00.891"), DeviceFirstTS: pointer(clockOf("08:53:59.571")),
			Private: &TagPrivate{Salt: "Zm9vYmFyYmF6cXV4MDEyMw==", EPC: "3000ABCDEF00000000000003"},
		}},

		{byDevice("plc-1", "019ceb9c-2d40-7c61-8a2f-4b7d90e1c356", "09:10:06.700", "09:10:06.912"), 1194, LaneSignal{
			Signal: "estop_ok", Kind: SignalSafety, Severity: SeveritySafety, Quality: "good", Reason: "edge", State: pointer(false),
			Previous: pointer(1.0), Edges: 1, ObservedTS: clockOf("09:10:06.700"),
		}},

		{cycleHeader(), 1195, XrayCycle{
			CycleID: "019ceb9c-1178-7e15-9b30-6d2c81f4a097", Phase: "ended", StartedTS: clockOf("09:09:59.800"), EndedTS: pointer(clockOf("09:10:06.700")),
			DurationS: pointer(6.9), End: "estop_ok", CutShort: true, CounterBefore: pointer(4711.0), CounterAfter: pointer(4711.0),
			Scans: 1, Mode: "operational", Flags: []string{},
		}},

		{byDocumentReader("019ceb8d-7f70-7c59-8b3d-4e7a9f1c62d8", "08:54:04.912", "019ceb8d-7f70-7c59-8b3d-4e7a9f1c62d7"), 58234, LaneDocument{
			ReadID: "019ceb8d-7f70-7c59-8b3d-4e7a9f1c62d7", Format: "td3", DocumentType: "P", IssuingState: "UTO", Valid: true,
			Checks:   DocumentChecks{Number: "valid", BirthDate: "valid", ExpiryDate: "valid", Optional: "absent", Composite: "valid"},
			Validity: DocumentInDate, MonthsLeft: pointer(37), ReadTS: clockOf("08:54:04.912"),
			Private: &DocumentPrivate{
				Salt:       "Zm9vYmFyYmF6cXV4MDEyMw==",
				NumberHash: "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592", KeyID: "3f9c01ab",
			},
		}},

		{byPortal("019ceb80-3b50-7f28-93e4-1d5e6b07ca92", "08:39:35.504", "08:39:35.504", ""), 1188, DeviceOnline{
			Connect: exampleConnect, Profile: exampleProfile, AbsentS: pointer(94.318),
		}},
		{byPortal("019ceb7e-fa1b-7086-b4d3-9a0e5cf81724", "08:38:13.275", "08:38:13.275", ""), 1186, DeviceSilent{
			Connect: exampleConnect, LastValid: pointer(clockOf("08:38:01.186")), LimitS: 12, BytesSince: 0,
			Hint: "check that the instrument is switched on and its data cable is in",
		}},
		{byPortal("019ceb7f-2545-7b1c-8e5f-c7063da94b10", "08:38:24.324", "08:38:24.325", ""), 1187, DeviceOffline{
			Connect: exampleConnect, LastValid: pointer(clockOf("08:38:01.186")),
			Reason: "cannot connect to 10.0.3.21:1600: nothing answers there (no route to host)",
			Hint:   "nothing answers at 10.0.3.21:1600: check the instrument's power, its network cable and its address",
		}},
		{byPortal("019ceba1-70e2-7d03-a1c8-4e92f5670bd3", "09:15:51.906", "09:15:51.906", ""), 1196, DeviceFault{
			Connect: exampleConnect, Reason: "the driver panicked: index out of range [4] with length 4",
			Hint: "the agent starts the driver anew; please report this with the log",
		}},
		{byPortal("019ceb80-3b93-7442-8f7d-b80c1e2a69f5", "08:39:35.571", "08:39:35.571", ""), 58226, DeviceUnparsed{
			Count: 1, Total: 3,
			Samples: []UnparsedSample{{
				Time: clockOf("08:39:35.571"), Reason: `GB: field 1 is "0004\x00\xa2", want six digits`,
				Raw: RawOf([]byte("GB,0004\x00\xa2,000411,000436,000428\r\n")),
			}},
		}},
		{byDevice("anpr-1", "019ceb82-10ce-7a4f-b3d8-27c05e91f6a3", "08:41:35.694", "08:41:35.694"), 1189, DeviceRefused{
			Senders: []RefusedSender{{
				Time: clockOf("08:41:35.512"), Address: "10.0.4.31", Reason: "wrong_source", BelongsTo: "entry-4/anpr-1", Count: 1,
			}},
			Hint: "10.0.4.31 is the address of entry-4/anpr-1, which posts to this device's path: correct the path in that camera",
		}},

		{byDevice("anpr-1", "019ceb6f-7a1c-7d52-8c3e-91b6f04a25d7", "08:21:17.468", "08:21:17.468"), 58216, DeviceAttachment{
			SHA256: "41d07c95f2b86e3a0c5de91748ab26f0937ce51d8a64b20fe3795c18d06ba2f4", Size: 412733, MediaType: "image/jpeg",
			Name: "20260314-082109-front.jpg", EventID: "019ceb6f-5a3f-7e04-a9d1-2f60b7c8534e", Uplink: "central",
			Chunks: 4, ChunkBytes: 130048, Outcome: "delivered",
		}},

		{byAgent("019ceaff-93d4-72e7-9b36-05d1ca4f8e7b", "06:19:04.020", "06:19:04.020"), 1171, AgentStarted{
			Version: "0.1.0", PreviousStop: "unclean", LastAlive: pointer(clockOf("06:17:31.442")), Devices: 2,
			ConfigSHA256: "5f1c0b7ad2e94638a17be0c35d46f8921e6b3a7c09d8f4521b6e7a90c3d5f812",
		}},
		{byAgent("019cebb3-1fa0-7a15-8de2-73f4096cb1d8", "09:35:10.752", "09:35:10.752"), 1199, AgentStopped{
			Reason: "signal: terminated", UptimeS: 11705.56,
		}},
		{byAgent("019cebab-ce39-7530-b9c7-e21f8a50d364", "09:27:11.161", "09:27:11.161"), 1197, AgentConfigChanged{
			Applied: true, ConfigSHA256: "c80e2f6495ab17d3048e9c5bf1726a3d90e4158c7b2f6da3915e0c47b8f3a26d",
			Added: []string{"entry-4/rpm-1"}, Changed: []string{"entry-3/rpm-2"}, Removed: []string{},
		}},
		{byAgent("019ceb00-84fd-7c69-a470-6f19e2b583ca", "06:20:05.757", "06:20:05.757"), 1174, AgentClockChanged{
			StepS: 61.204, Before: clockOf("06:19:04.553"),
		}},
		{byAgent("019ceaff-93ee-7091-82fb-d4370ce65a18", "06:19:04.046", "06:19:04.046"), 1172, AgentLoss{
			Priority: Routine, FirstSequence: FormatSequence(57630), LastSequence: FormatSequence(57633), Count: 4,
			Reason: "damaged", Detail: "sequences 57630 to 57633 of the routine log can't be read: " +
				"damage in segment 00000000000000057200-0000000001.seg, bytes 143360 to 147456",
		}},
		{byAgent("019ceb72-df60-7e13-86a5-d04b7f29c1e8", "08:25:00.000", "08:25:00.000"), 1185, AgentCheckpoint{
			Statement: "lanepost checkpoint v1\nagent entry3-box-4c91ae\ntime 2026-03-14T08:25:00.000Z\nclock yes 12\n" +
				"urgent 00000000000000001184 f9d37c23fcc0f03c15a86aba71dce01dd0baa7a1568180e60c2347a5863151bc 3\n" +
				"routine 00000000000000058218 fde55b36ec36cbcd2832b6b9f8f59ea0cf6d942c528053ca1171c063069a74cf 61\n",
			Signature: "PXuNxghpP0usvc+a+Tb1GxHnkhJ3ywm6xFyLsP3TbHlnqpxYAj2SixDzJ2l3ghPWuy7VC3/UgN1oRj2DPA4CBQ==",
			PublicKey: "2oc/oIh4uTYn5W5qYvEVSuPqCA59yZosCjHMhQ73dqM=",
		}},
		{byAgent("019ceaff-93f4-7b60-9d1e-58c2f3a7046b", "06:19:04.052", "06:19:04.052"), 1173, AgentKey{
			PublicKey: "2oc/oIh4uTYn5W5qYvEVSuPqCA59yZosCjHMhQ73dqM=", Reason: "rotated",
			PreviousPublicKey: "2y0bVMKNVgzPn0UbCAFO6DaGzrgSX+nBGmnD1/cUAzU=",
			Statement: "lanepost key v1\nagent entry3-box-4c91ae\ntime 2026-03-14T06:19:04.052Z\n" +
				"public 2oc/oIh4uTYn5W5qYvEVSuPqCA59yZosCjHMhQ73dqM=\n",
			Endorsement: "ImFq8JnIQ2X5FOaQtLBdc7qpHmri+ogEJnIsyYr+KpXX1cNF03N0D9Vk87Q5TbOJ58hXPBwOAqACUS/BNa8tAA==",
		}},
		{byAgent("019ceb99-1b6a-7d24-b8f1-60a7c35e92d4", "09:06:45.738", "09:06:45.738"), 58240, AgentRequest{
			RequestID: "q-20260314-0007", Command: "resend",
			Args: `{"priority":"urgent","first_sequence":"00000000000000001183","last_sequence":"00000000000000001184"}`,
			From: "mqtt:national", Accepted: true, Outcome: "ok",
		}},
		{byAgent("5b7d0a3e-9c41-4f86-a2d7-e1804bc6935f", "08:40:02.117", "08:40:02.117"), 0, AgentSkipped{
			Priority: Routine, FirstSequence: FormatSequence(58225), LastSequence: FormatSequence(58226),
			Digests: "NivM3JVUFJaEIPhzNf0UBxoE4Og9CfZ2WvQaKWh4JLwT3iXaIQwCUNG7Kt5iRr7dPqa9c1rZ5SVcWpM+lqvxOg==",
		}},
		{byAgent("8e0b52f7-3d1c-4b6a-9f84-27c1d9e0a635", "08:40:00.511", "08:40:00.511"), 0, AgentState{
			State: "online", Session: 31, Since: clockOf("06:19:03.988"), Version: "0.1.0",
			Backlog: 1, OldestUnsent: pointer(clockOf("08:39:59.871")), UrgentHead: 1188, RoutineHead: 58227,
			Problems: []string{},
		}},
		{byPortal("c4d91a60-72e5-4f3b-8a0d-5b6ef18c2497", "08:38:13.275", "08:38:13.275", ""), 0, DeviceState{
			State: "silent", Since: clockOf("08:38:13.275"), Profile: exampleProfile, Connect: exampleConnect,
			LastValid: pointer(clockOf("08:38:01.186")), Records: 48211, Unparsed: 2, Reconnects: 1,
			Detail: "no valid record for 12s; check that the instrument is switched on and its data cable is in",
		}},
	}
	all := make(map[string]Example, len(list))
	for _, x := range list {
		all[x.Data.Type()] = x
	}
	return all
}

func exampleSummary() RadiationOccupancy {
	left, right := exampleLabels[:2], exampleLabels[2:]
	return RadiationOccupancy{
		OccupancyID: exampleOccupancy, Outcome: OutcomeAlarm, End: EndGX, Gamma: HasData, Neutron: HasData,
		GXCounter: pointer(412), NeutronBgCPS: pointer(2.341),
		StartTS: clockOf("08:21:07.412"), EndTS: clockOf("08:21:10.592"), FirstSampleTS: clockOf("08:21:06.412"),
		DurationS: 3.18, GammaAlarm: true, NeutronAlarm: false,
		GammaSamples: 20, GammaAlarmSamples: 8, NeutronSamples: 4, NeutronAlarmSamples: 0, NeutronCounts: 8,
		GammaBgSumCPS: pointer(1677), GammaMax5SampleSum: pointer(2910), GammaMaxNSigma: pointer(30.109),
		SpeedRecords: 2, SpeedsKPH: []float64{14.71, 160.93}, SpeedKPH: pointer(14.71),
		Recomputed: &Recomputed{
			NSigma: 5, Intervals: 5, Source: "profile",
			Groups: []GroupSigma{
				{Group: "sum", Detectors: exampleLabels, BgCPS: 1677, MaxSum: 2910, MaxNSigma: pointer(30.109), AlarmSamples: 7},
				{Group: "vertical-1", Detectors: left, BgCPS: 813, MaxSum: 815, MaxNSigma: pointer(0.07), AlarmSamples: 0},
				{Group: "vertical-2", Detectors: right, BgCPS: 864, MaxSum: 2190, MaxNSigma: pointer(45.111), AlarmSamples: 8},
			},
			AlarmSamples: 8, DisagreeingSamples: 0, BorderlineSamples: 0, Agrees: true,
		},
		Baseline: &Baseline{BaselineCPS: 1684, WindowS: 1800, MaxNSigma: pointer(29.876)},
		GammaSeries: []Sample{
			gamma(-1, false, 83, 80, 88, 84), gamma(-0.8, false, 79, 85, 86, 87), gamma(-0.6, false, 82, 81, 84, 86),
			gamma(-0.4, false, 80, 83, 89, 85), gamma(-0.2, false, 78, 84, 87, 88), gamma(0, false, 70, 75, 79, 78),
			gamma(0.2, false, 64, 66, 72, 70), gamma(0.4, false, 61, 65, 77, 74), gamma(0.6, false, 63, 64, 95, 92),
			gamma(0.8, false, 66, 68, 150, 143), gamma(1, true, 70, 73, 231, 220), gamma(1.2, true, 75, 79, 287, 271),
			gamma(1.4, true, 73, 77, 262, 255), gamma(1.6, true, 69, 70, 190, 181), gamma(1.8, true, 65, 66, 121, 118),
			gamma(2, true, 62, 64, 88, 85), gamma(2.2, true, 63, 61, 74, 73), gamma(2.4, true, 70, 69, 76, 77),
			gamma(2.6, false, 77, 79, 83, 82), gamma(2.8, false, 80, 82, 86, 85),
		},
		NeutronSeries: []Sample{
			{OffsetS: -1, Counts: []int{1, 0, 1, 0}}, {OffsetS: 0, Counts: []int{0, 1, 0, 2}},
			{OffsetS: 1, Counts: []int{1, 0, 0, 1}}, {OffsetS: 2, Counts: []int{0, 0, 1, 0}},
		},
		Raw: RawOf([]byte("NS,000001,000000,000001,000000\r\n" +
			"GS,000083,000080,000088,000084\r\n" +
			"GS,000079,000085,000086,000087\r\n" +
			"GS,000082,000081,000084,000086\r\n" +
			"GS,000080,000083,000089,000085\r\n" +
			"GS,000078,000084,000087,000088\r\n" +
			"GS,000070,000075,000079,000078\r\n" +
			"GS,000064,000066,000072,000070\r\n" +
			"GS,000061,000065,000077,000074\r\n" +
			"SP,0.0746,09.140,014.71,000000\r\n" +
			"GS,000063,000064,000095,000092\r\n" +
			"GS,000066,000068,000150,000143\r\n" +
			"NS,000000,000001,000000,000002\r\n" +
			"GA,000070,000073,000231,000220\r\n" +
			"GA,000075,000079,000287,000271\r\n" +
			"GA,000073,000077,000262,000255\r\n" +
			"GA,000069,000070,000190,000181\r\n" +
			"GA,000065,000066,000121,000118\r\n" +
			"NS,000001,000000,000000,000001\r\n" +
			"GA,000062,000064,000088,000085\r\n" +
			"GA,000063,000061,000074,000073\r\n" +
			"SP,0.0000,99.999,160.93,000000\r\n" +
			"GA,000070,000069,000076,000077\r\n" +
			"GS,000077,000079,000083,000082\r\n" +
			"GS,000080,000082,000086,000085\r\n" +
			"NS,000000,000000,000001,000000\r\n" +
			"GX,000412,002341,000000,000000\r\n")),
	}
}
